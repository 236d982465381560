from hpo.store.leases import Lease
from hpo.study.schedule import LeasedTrial
from hpo.worker.pack_trials import PackTrials


def trial(number: int, token: int = 1) -> LeasedTrial:
    return LeasedTrial(number, Lease(100 + number, token), {"lr": 0.1, "batch_size": 16}, number)


def pack(*numbers: int) -> PackTrials:
    trials = PackTrials()
    trials.add(map(trial, numbers))
    return trials


def test_removed_trial_leaves_once_and_its_results_do_not_count() -> None:
    trials = pack(0, 1)
    trials.remove([1])
    assert trials.open == trials.active == {0}
    assert trials.gone == {1}
    assert trials.leases == (Lease(100, 1),)
    assert (trials.pop_leaving(), trials.pop_leaving()) == ({1}, set())
    assert trials.trial_id(1) == 101  # its seconds are still charged


def test_trial_that_is_claimed_again_counts_after_it_is_readmitted() -> None:
    trials = pack(0)
    trials.remove([0])
    trials.add([trial(0, token=2)])
    assert trials.open == {0}
    assert trials.active == set()
    trials.readmit([0])
    assert trials.active == {0}
    assert trials.leases == (Lease(100, 2),)


def test_trials_without_a_held_lease_are_lost() -> None:
    assert pack(0, 1, 2).lost({100, 102}) == {1}


def test_release_forgets_leases_and_makes_nobody_leave() -> None:
    trials = pack(0, 1)
    trials.release()
    assert trials.leases == ()
    assert trials.pop_leaving() == set()


def test_pausing_members_are_returned_once() -> None:
    trials = pack(0, 1)
    trials.pause([0])
    assert (trials.pop_pausing(), trials.pop_pausing()) == ({0}, set())
