from tests.faults.report import NOTICED, PLANTED, POINTS, VIOLATIONS, summary


def test_adds_up_by_engine_and_kind() -> None:
    lines = summary(
        [
            ("sqlite", POINTS, "killed", 60),
            ("sqlite", VIOLATIONS, "killed", 0),
            ("postgresql", POINTS, "killed", 61),
            ("postgresql", VIOLATIONS, "killed", 2),
            ("sqlite", POINTS, "frozen", 5),
            ("sqlite", POINTS, "frozen", 6),
            ("sqlite", PLANTED, "", 1),
            ("sqlite", PLANTED, "", 1),
            ("sqlite", NOTICED, "", 1),
            ("sqlite", NOTICED, "", 0),
        ]
    )
    assert [line.split() for line in lines] == [
        ["sqlite", "postgresql"],
        ["killed", "60", "61"],
        ["frozen", "11", "0"],
        ["points", "in", "all", "71", "61"],
        ["promises", "broken", "0", "2"],
        ["planted", "faults", "noticed", "1", "of", "2", "0", "of", "0"],
    ]
