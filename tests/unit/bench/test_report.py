"""What a benchmark prints."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from bench import __main__ as command
from bench.cores import Cores
from bench.report import BenchmarkError, Report, Target

REPORT = Report("echo", {"echo_per_s": 9012.345, "ratio": 0.51234}, {"ratio": Target(0.5)})


def test_json_is_one_line_with_figures_and_machine() -> None:
    line = REPORT.json_line()
    assert "\n" not in line
    parsed = json.loads(line)
    assert parsed["bench"] == "echo"
    assert parsed["figures"] == {"echo_per_s": 9012.0, "ratio": 0.5123}
    assert parsed["machine"]["cores"] >= 1


def test_table_shows_figures_with_targets_first() -> None:
    output = io.StringIO()
    REPORT.print_table(Console(file=output, width=100))
    text = output.getvalue()
    assert text.index("ratio") < text.index("echo_per_s")
    assert "9,012" in text
    assert "met" in text


@pytest.mark.parametrize(
    ("target", "figure", "met"),
    [
        (Target(0.5), 0.5, True),
        (Target(0.5), 0.49, False),
        (Target(6, at_most=True), 6.0, True),
        (Target(6, at_most=True), 6.1, False),
    ],
)
def test_target_is_met_or_missed(target: Target, figure: float, met: bool) -> None:
    assert target.met_by(figure) is met


def test_command_lists_benchmarks_and_refuses_unknown_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--list"]) == 0
    assert "echo" in capsys.readouterr().out.split()
    with pytest.raises(SystemExit):
        command.main(["no-such-benchmark"])


def test_command_prints_a_line_for_a_report_and_fails_for_a_failure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def succeeds(*, quick: bool) -> Report:
        assert not quick
        return REPORT

    def fails(*, quick: bool) -> Report:
        raise BenchmarkError(f"calls failed {quick=}")

    monkeypatch.setattr(command, "BENCHMARKS", {"good": succeeds, "bad": fails})
    assert command.main(["good", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bench"] == "echo"
    assert command.main(["bad", "--quick", "--json"]) == 1
    captured = capsys.readouterr()
    assert not captured.out
    assert "calls failed quick=True" in captured.err


@pytest.mark.parametrize(
    ("cores", "server", "others", "two_servers", "beside_two"),
    [
        ({0}, {0}, {0}, {0}, {0}),
        ({0, 1}, {0}, {1}, {0, 1}, {0, 1}),
        ({2, 3, 4, 5}, {2}, {3, 4, 5}, {2, 3}, {4, 5}),
    ],
)
def test_server_has_a_core_to_itself_where_there_are_two(
    cores: set[int], server: set[int], others: set[int], two_servers: set[int], beside_two: set[int]
) -> None:
    assert Cores.divided(cores) == Cores(*map(frozenset, (server, others, two_servers, beside_two)))
