"""Tasks end, also those that miss their first cancellation."""

import asyncio

import pytest

from pipeline.tasks import end_tasks


async def stubborn(heard: list[str]) -> None:
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            heard.append("cancelled")
            if len(heard) > 1:
                raise


async def failing() -> None:
    raise ValueError("on its own")


@pytest.mark.timeout(10)
async def test_a_task_that_swallows_its_cancellation_is_cancelled_again() -> None:
    heard: list[str] = []
    tasks = [asyncio.create_task(stubborn(heard)), asyncio.create_task(failing())]
    await asyncio.sleep(0)
    await end_tasks(tasks)
    assert heard == ["cancelled", "cancelled"]
    assert all(task.done() for task in tasks)


async def test_nothing_to_end() -> None:
    done = asyncio.create_task(asyncio.sleep(0))
    await done
    await end_tasks([])
    await end_tasks([done])
    assert not done.cancelled()
