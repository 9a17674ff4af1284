"""The shortest way through the bus: publish, consume, answer, read back."""

import asyncio

from pipeline.bus import Bus, Delivery
from pipeline.messages import ExecutionPlan, Opportunity, PlanRefusal


async def test_a_message_is_stored_handled_once_and_answered(bus: Bus) -> None:
    seen: list[tuple[str, int]] = []
    done = asyncio.Event()

    def plan(message: Opportunity, delivery: Delivery) -> object:
        seen.append((message.id, delivery.attempt))
        return bus.publish_soon(ExecutionPlan(id="p-" + message.id, causation_id=message.id))

    async def execute(message: ExecutionPlan, delivery: Delivery) -> None:
        assert delivery.subject == "planned.plan"
        if message.causation_id == "o3":
            done.set()

    await bus.consume("OPPORTUNITIES", "opportunity.found", durable="planner", handler=plan)
    await bus.consume("PLANNED", "planned.plan", durable="executor", handler=execute)
    for number in range(4):
        stored = await bus.publish(Opportunity(id=f"o{number}"))
        assert (stored.stream, stored.sequence, stored.duplicate) == ("OPPORTUNITIES", number + 1, False)
    await asyncio.wait_for(done.wait(), 5)
    assert seen == [(f"o{number}", 1) for number in range(4)]
    assert (await bus.publish(Opportunity(id="o0"))).duplicate
    await bus.publish(PlanRefusal(id="r"))
    assert [(subject, message.id) for subject, message in await bus.last("planned.>")] == [
        ("planned.plan", "p-o3"),
        ("planned.refusal", "r"),
    ]
    assert [message.id async for message, _ in bus.read("PLANNED", last=2)] == ["p-o3", "r"]
    for stream, durable in (("OPPORTUNITIES", "planner"), ("PLANNED", "executor")):
        info = await bus.js.consumer_info(stream, durable)
        assert (info.num_ack_pending, info.num_pending, info.num_redelivered) == (0, 0, 0)
