"""A limit ends the thread that is late and no other, and costs no thread of its own."""

import os
import threading
import time

import pytest

from cr_interp.errors import UserError
from cr_interp.system.time_limit import limited


def spin() -> None:
    while True:
        pass


def test_many_limits_are_watched_by_one_thread():
    before = threading.active_count()
    for _ in range(1000):
        with limited(60, "too long"):
            assert threading.active_count() <= before + 1


def test_only_the_thread_that_is_late_is_ended():
    told, ended = [], threading.Event()

    def late() -> None:
        try:
            with limited(0.2, "this one is late"):
                spin()
        except UserError as error:
            told.append(str(error))
        ended.set()

    thread = threading.Thread(target=late)
    thread.start()
    with limited(60, "this one is not"):
        assert ended.wait(20)
    thread.join()
    assert told == ["this one is late"]


def test_a_shorter_limit_inside_a_longer_one_is_kept():
    with limited(60, "outer"), pytest.raises(UserError, match="inner"), limited(0.2, "inner"):
        spin()


def test_a_limit_works_after_the_one_before_has_passed():
    for _ in range(2):
        with pytest.raises(UserError, match="too long"), limited(0.1, "too long"):
            spin()
        with limited(0.1, "too long"):
            pass
        time.sleep(0.15)  # it would have been late by now


def test_a_forked_process_has_a_watch_of_its_own():
    with limited(60, "too long"):  # so that this process's thread, which a fork does not take along, is there
        child = os.fork()
        if child == 0:
            try:
                with limited(0.2, "too long in the child"):
                    spin()
            except UserError:
                os._exit(7)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
