"""What is logged as a step's peak is what its name says."""

import sys

import pytest
import torch
from test_trainer import small

from cr_interp.study.study import Study
from training.run.distill import distill
from training.run.peak import CUDA, LIFETIME, RESIDENT, read_peak, start_peak

CPU = torch.device("cpu")


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a span is Linux's")
def test_the_peak_is_of_the_span_and_sees_what_came_and_went():
    if not start_peak(CPU):
        pytest.skip("this kernel does not let a process reset its peak")
    before = read_peak(CPU, True)[RESIDENT]
    size = 256 * 2**20
    torch.ones(size // 4).sum()
    after = read_peak(CPU, True)[RESIDENT]
    assert after - before > 0.7 * size
    if start_peak(CPU):
        assert read_peak(CPU, True)[RESIDENT] <= after


def test_where_the_peak_cannot_be_reset_the_name_says_so():
    (name,) = read_peak(CPU, False)
    assert name == LIFETIME


@pytest.mark.slow
def test_every_training_row_has_a_peak(tmp_path):
    study = Study.create(tmp_path / "s", {})
    distill(small("steps=2"), "opd", 0, study)
    for row in study.train_rows("opd", 0):
        found = {CUDA, RESIDENT, LIFETIME} & set(row)
        assert len(found) == (row["kind"] == "train")
        assert all(row[name] > 1e8 for name in found)
