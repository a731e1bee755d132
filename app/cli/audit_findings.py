"""What a verification says, in words."""

from app.audit.verify.findings import Finding, Report
from app.cli.table import cell

MAX_CHAINS_SHOWN = 50  # of a log that is all wrong the first ones are enough


def summary(report: Report) -> str:
    """Some lines for a person. Nothing in it can steer a terminal."""
    lines = []
    if report.subject is not None:
        lines += [f"The file says that it is {cell(report.subject)}. Nobody has signed that.", ""]
    lines += [
        f"Verified {counted(report.chains, 'chain')}, {counted(report.events, 'event')}, "
        f"{counted(report.messages, 'message')}, {counted(report.checkpoints, 'checkpoint')}, "
        f"{counted(report.register_rows, 'row')} of the register.",
        "",
    ]
    first = report.findings.first
    if report.clean:
        lines.append("Nothing was changed, as far as this can be told.")
    else:
        lines.append(f"{counted(report.findings.total, 'finding')}. Of each chain the first one:")
        for finding in first[:MAX_CHAINS_SHOWN]:
            lines += _lines(finding)
        if len(first) > MAX_CHAINS_SHOWN:
            lines.append(f"... and {len(first) - MAX_CHAINS_SHOWN} chains more")
    for chain in report.not_covered:
        lines.append(
            f"Not yet covered by a checkpoint: {counted(chain.events, 'event')} of "
            f"{cell(chain.writer)}, from {chain.first} on."
        )
    lines += [f"Note: {cell(note)}" for note in report.notes]
    return "\n".join(lines)


def _lines(finding: Finding) -> list[str]:
    where = []
    if finding.writer is not None:
        where.append(f"chain {cell(finding.writer)}")
    if finding.sequence is not None:
        where.append(f"event {finding.sequence}")
    if finding.request_id is not None:
        where.append(f"request {cell(finding.request_id)}")
    return [f"  {', '.join(where) or 'the log'}: {finding.problem}", f"    {cell(finding.what)}"]


def counted(count: int, name: str) -> str:
    """`1 event`, `2,000 events`."""
    return f"{count:,} {name}{'' if count == 1 else 's'}"
