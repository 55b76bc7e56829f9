"""The faults that `python -m testing.mutants` puts in still fit the source, so that the command cannot pass over one."""

from pathlib import Path

from testing.mutants import MUTANTS, ROOT


def test_every_fault_stands_once_in_a_source_that_still_compiles_with_it():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 20
    for mutant in MUTANTS:
        source = Path(ROOT, mutant.path).read_text("utf-8")
        assert source.count(mutant.old) == 1, mutant.name
        compile(source.replace(mutant.old, mutant.new), mutant.path, "exec")
        assert all(Path(ROOT, test).exists() for test in mutant.tests), mutant.name
