"""`vitalane burden`: what alerts ask of people, of a journal's own rules or of others, over the past."""

import json
from collections.abc import Sequence

import click

from cli.past import Source, source_options
from cli.rules_files import loaded
from rules.burden import burden as burden_of
from rules.episodes import final_episodes

SHOWN = 20


@click.command()
@click.option("--rules", "rules_files", multiple=True, metavar="FILE", help="Files, folders, packs. Of a journal, by default its own.")
@source_options
@click.option("--json", "as_json", is_flag=True, help="The numbers as one JSON object.")
def burden(*, rules_files: Sequence[str], source: Source, as_json: bool) -> None:
    """Show how many alerts rules make, from whom, and how many of them clear by themselves, chatter or stand."""
    done = source.run(loaded(rules_files, source.config_file) if rules_files else None)
    episodes = final_episodes(done.events)
    found = burden_of(episodes, done.subjects, done.first_ms, done.last_ms)
    if as_json:
        click.echo(json.dumps(found._asdict()))
        return
    for name, text in (
        ("alerts", f"{found.alerts}, from {found.subjects} of {done.subjects} subjects"),
        ("per subject and day", f"{found.per_subject_and_day:.2f}"),
        ("per 10 minutes", f"{found.per_10_minutes:.2f}, at most {found.most_in_10_minutes}"),
        ("from the top tenth of them", f"{found.share_of_top_tenth:.0%}"),
        ("cleared within 10 s", f"{found.cleared_within_10_s:.0%}"),
        ("cleared within 60 s", f"{found.cleared_within_60_s:.0%}"),
        ("chattering", f"{len(found.chattering)}"),
        ("standing in the end", f"{len(found.standing)}"),
        ("stale, over a day", f"{len(found.stale)}"),
    ):
        click.echo(f"{name:28} {text}")
    for title, names in (("chatters", found.chattering), ("stands", found.standing), ("stale", found.stale)):
        for name in names[:SHOWN]:
            click.echo(f"{title:28} {name}")
