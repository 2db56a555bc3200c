from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from select import select

import pytest

from fanout.engine import doorbell
from fanout.engine.doorbell import Doorbell, Follower, nudge


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path, which the one of `tmp_path` is not everywhere."""
    made = Path(tempfile.mkdtemp(prefix="b"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def bell(folder: Path) -> Iterator[Doorbell]:
    with closing(Doorbell(folder)) as made:
        yield made


@pytest.fixture
def follower(folder: Path) -> Iterator[Follower]:
    with closing(Follower(folder)) as made:
        yield made


def has_mail(follower: Follower) -> bool:
    return bool(select([follower.socket], [], [], 0)[0])


def test_nothing_has_rung_at_first(bell: Doorbell) -> None:
    assert bell.answer() is False


def test_a_nudge_rings_once(bell: Doorbell) -> None:
    nudge(bell.path)
    assert [bell.answer(), bell.answer()] == [True, False]


def test_many_nudges_are_one_answer(bell: Doorbell) -> None:
    for _ in range(1_000):
        nudge(bell.path)
    assert [bell.answer(), bell.answer()] == [True, False]


def test_the_engine_can_wake_itself(bell: Doorbell) -> None:
    for _ in range(1_000):
        bell.ring()
    assert [bell.answer(), bell.answer()] == [True, False]


def test_an_engine_that_wakes_itself_does_not_follow_itself(bell: Doorbell) -> None:
    bell.ring()
    assert bell.answer() is True
    bell.tell_followers()
    assert bell.answer() is False


def test_a_nudge_wakes_who_waits_for_the_socket(bell: Doorbell) -> None:
    nudge(bell.path)
    assert select([bell.socket], [], [], 0)[0] == [bell.socket]


def test_to_follow_rings_too_and_is_told_of_news_only_after_them(bell: Doorbell, follower: Follower) -> None:
    follower.follow(bell.path)
    assert bell.answer() is True
    assert not has_mail(follower)
    bell.tell_followers()
    assert has_mail(follower)


def test_all_followers_are_told_and_nobody_else(bell: Doorbell, folder: Path) -> None:
    with ExitStack() as stack:
        followers = [stack.enter_context(closing(Follower(folder))) for _ in range(3)]
        for each in followers[:2]:
            each.follow(bell.path)
        bell.answer()
        bell.tell_followers()
        assert [has_mail(each) for each in followers] == [True, True, False]


def test_waiting_ends_with_the_news_and_takes_all_of_them(bell: Doorbell, follower: Follower) -> None:
    follower.follow(bell.path)
    bell.answer()
    for _ in range(3):
        bell.tell_followers()
    follower.wait(60)
    assert not has_mail(follower)


@pytest.mark.parametrize("timeout_s", [0.0, 0.001])
def test_waiting_ends_with_the_time(follower: Follower, timeout_s: float) -> None:
    follower.wait(timeout_s)
    assert follower.socket.gettimeout() == 0.0


def test_a_dead_follower_is_forgotten_and_the_others_are_told(bell: Doorbell, follower: Follower, folder: Path) -> None:
    dead = Follower(folder)
    dead.follow(bell.path)
    follower.follow(bell.path)
    bell.answer()
    dead.close()
    bell.tell_followers()
    assert list(bell._followers) == [follower.path]
    assert has_mail(follower)


def test_a_follower_that_does_not_ask_again_is_forgotten(
    bell: Doorbell, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorbell, "_FOLLOWER_EXPIRES_S", -1.0)
    follower.follow(bell.path)
    bell.answer()
    bell.tell_followers()
    assert bell._followers == {}
    assert not has_mail(follower)


def test_a_follower_that_reads_nothing_is_kept_and_holds_nobody_up(bell: Doorbell, follower: Follower) -> None:
    follower.follow(bell.path)
    bell.answer()
    for _ in range(2_000):
        bell.tell_followers()
    assert list(bell._followers) == [follower.path]


def test_it_is_no_error_when_nobody_listens(folder: Path, follower: Follower) -> None:
    gone = Doorbell(folder)
    gone.close()
    for address in ("", gone.path, str(folder), str(folder / "missing" / "x.sock"), "/" + "x" * 200):
        nudge(address)
        follower.follow(address)
    gone.ring()
    assert not has_mail(follower)


def test_nothing_is_left_behind(folder: Path) -> None:
    bell, follower = Doorbell(folder), Follower(folder)
    assert sorted(each.suffix for each in folder.iterdir()) == [".sock", ".sock"]
    bell.close()
    follower.close()
    assert list(folder.iterdir()) == []


def test_the_socket_of_a_dead_engine_is_no_obstacle(folder: Path) -> None:
    dead = Doorbell(folder)
    dead.socket.close()
    with closing(Doorbell(folder)) as bell:
        nudge(dead.path)
        assert (bell.path, bell.answer()) == (dead.path, True)


def test_a_path_too_long_for_a_socket_is_replaced_by_a_private_short_one(folder: Path) -> None:
    deep = folder / ("x" * 60) / ("y" * 60)
    deep.mkdir(parents=True)
    with closing(Doorbell(deep)) as bell, closing(Follower(deep)) as follower:
        places = [Path(bell.path).parent, Path(follower.path).parent]
        assert len(bell.path) < 100 > len(follower.path)
        assert [oct(place.stat().st_mode & 0o777) for place in places] == [oct(0o700)] * 2
        follower.follow(bell.path)
        assert bell.answer() is True
        bell.tell_followers()
        assert has_mail(follower)
    assert [place.exists() for place in places] == [False, False]
    assert list(deep.iterdir()) == []


def test_what_cannot_be_opened_leaves_no_folder_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when Ctrl-C comes while it is opened."""
    temporary = tmp_path / "t"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))

    class Interrupted(socket.socket):
        def bind(self, _address: object) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(socket, "socket", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        Doorbell(tmp_path / ("long" * 40))
    assert list(temporary.iterdir()) == []


def test_a_folder_for_temporary_files_that_is_too_deep_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("deep" * 40)))
    bell = Doorbell(tmp_path / ("long" * 40))
    assert Path(bell.path).exists()
    bell.close()
    assert not Path(bell.path).parent.exists()


def test_an_engine_removes_what_killed_processes_have_left(folder: Path, follower: Follower) -> None:
    for name in ("engine-1.sock", "follow-00-1.sock", "mine.sock"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as killed:
            killed.bind(str(folder / name))
    (folder / "engine-2.sock").write_text("a file of somebody")
    with closing(Doorbell(folder)) as bell:
        left = {path.name for path in folder.iterdir()}
        assert left == {"mine.sock", "engine-2.sock", Path(follower.path).name, Path(bell.path).name}
        assert follower.follow(bell.path)
        bell.answer()
        bell.tell_followers()
        assert has_mail(follower)
