"""Quotes over gRPC (`proto/quotes.proto`): the same desk and the same subscriptions for clients in other languages.

A stream is told when its client has taken the message before: what changed meanwhile is told as one, and the newest.
"""

from __future__ import annotations

import asyncio
import hmac
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from grpc import aio
from grpc_reflection.v1alpha import reflection

from pipeline import run_files
from pipeline.clock import wall_ns
from pipeline.context import WorkerContext
from pipeline.errors import Unreachable
from pipeline.messages import (
    AskedPair,
    PairQuotes,
    PoolRequest,
    Problem,
    Quote,
    QuoteRequest,
    enum_name,
)
from pipeline.quotes_grpc import pb, pb_grpc
from workers.quote_core.desk import NotUnderstood
from workers.quote_core.served.clerk import NOT_READY, Clerk
from workers.quote_core.served.subscriptions import Hub, Subscription

RUN_FILE = "quotes-grpc"
"""Where the address is found: in the run directory."""
SERVICE = "arbitrage.quotes.v1.Quotes"
_STATUS = {
    Problem.BAD_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    Problem.UNKNOWN_TOKEN: grpc.StatusCode.NOT_FOUND,
    Problem.UNKNOWN_POOL: grpc.StatusCode.NOT_FOUND,
    Problem.NO_QUOTE: grpc.StatusCode.NOT_FOUND,
    Problem.TOO_MANY: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Problem.NOT_READY: grpc.StatusCode.UNAVAILABLE,
}
STOP_S = 0.5
MAX_CALLS = 1024
"""Calls at once on one connection; a client that has more on their way waits."""


class GrpcServer:
    """The server, on an address of its own."""

    def __init__(self, context: WorkerContext, clerk: Clerk, hub: Hub) -> None:
        """Prepare; nothing is served before `run`."""
        self.context = context
        self.clerk = clerk
        self.hub = hub
        self.settings = context.config.serve

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            Unreachable: if the address cannot be listened on.
        """
        settings = self.settings
        token = settings.grpc_token.get_secret_value()
        server = aio.server(
            interceptors=[_Guard(token)] if token else [],
            options=[
                ("grpc.max_receive_message_length", settings.grpc_max_message_bytes),
                # Two processes on one port would each get some of the requests.
                ("grpc.so_reuseport", 0),
                ("grpc.max_concurrent_streams", MAX_CALLS),
                # A client that is gone without a word is noticed within half a minute.
                ("grpc.keepalive_time_ms", 20_000),
                ("grpc.keepalive_timeout_ms", 10_000),
                ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ],
        )
        pb_grpc.add_QuotesServicer_to_server(_Quotes(self), server)
        reflection.enable_server_reflection((SERVICE, reflection.SERVICE_NAME), server)
        try:
            port = server.add_insecure_port(f"{settings.grpc_host}:{settings.grpc_port}")
        except RuntimeError:
            where = f"{settings.grpc_host}:{settings.grpc_port}"
            raise Unreachable(f"cannot listen on {where}", "is it taken? see serve.grpc_port") from None
        await server.start()
        address = f"{settings.grpc_host}:{port}"
        entry = run_files.RunFile(RUN_FILE, os.getpid(), wall_ns(), url=address, ready=True)
        run_files.write(self.context.config, entry)
        self.context.log.info("quotes are served over gRPC", address=address)
        try:
            await server.wait_for_termination()
        finally:
            run_files.remove(self.context.config, RUN_FILE)
            await server.stop(STOP_S)


class _Quotes(pb_grpc.QuotesServicer):  # type: ignore[misc]  # generated without types
    """The methods of the service."""

    def __init__(self, server: GrpcServer) -> None:
        self._context = server.context
        self._clerk = server.clerk
        self._hub = server.hub
        self._interval_s = server.settings.interval_ms / 1000

    async def GetQuote(self, request: Any, context: Any) -> Any:  # noqa: N802 - the name in the interface
        asked = QuoteRequest(pairs=[_asked(request.pair)], paired=request.paired, fresh_external=request.fresh_external)
        clerk = self._clerk
        answer = clerk.quotes_now(asked) if clerk.at_once(asked) else await clerk.quotes(asked)
        if answer.problem:
            await _refuse(context, answer.problem, answer.detail)
        return pb.GetQuoteReply(
            slot=answer.slot,
            market_ns=answer.market_ns,
            created_ns=answer.created_ns,
            quotes=_pair_quotes(answer.pairs[0]),
        )

    async def GetPoolState(self, request: Any, context: Any) -> Any:  # noqa: N802 - the name in the interface
        answer = self._clerk.pool(PoolRequest(pool=request.pool))
        if answer.problem:
            await _refuse(context, answer.problem, answer.detail)
        state = answer.pools[0]
        return pb.PoolState(
            pool=state.pool,
            protocol=enum_name(state.protocol),
            token_a=state.token_a,
            token_b=state.token_b,
            slot=state.slot,
            write_version=state.write_version,
            observed_ns=state.observed_ns,
            confirmed_ns=state.confirmed_ns,
            quotes=[
                pb.QuotedAmount(
                    a_to_b=each.a_to_b,
                    amount_index=each.amount_index,
                    amount_in=each.amount_in,
                    amount_out=each.amount_out,
                    fee_amount=each.fee_amount,
                    price_impact_bps=each.price_impact_bps,
                )
                for each in state.quotes
            ],
        )

    async def StreamBatchQuotes(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802 - as above
        asked = self._clerk.understand([_asked(pair) for pair in request.pairs], paired=request.paired)
        if isinstance(asked, NotUnderstood):
            await _refuse(context, asked.problem, asked.detail)
            return
        if not asked:
            await _refuse(context, Problem.BAD_REQUEST, "no pairs; name those to be told of")
        if not self._clerk.desk.ready:
            await _refuse(context, Problem.NOT_READY, NOT_READY)
        subscription = Subscription("grpc", asked)
        if not self._hub.add(subscription):
            words = f"{self._hub.limit} subscriptions are served already; try again later"
            await _refuse(context, Problem.TOO_MANY, words)
        try:
            while True:
                await subscription.wake.wait()
                changes = self._changes(subscription)
                if changes is not None:
                    # Comes back when the client's window has room for it.
                    yield changes
                    self._hub.told += 1
                await asyncio.sleep(self._interval_s)
        finally:
            self._hub.remove(subscription, "gone")

    async def Health(self, request: Any, context: Any) -> Any:  # noqa: N802 - the name in the interface
        del request, context
        aggregator = self._clerk.desk.aggregator()
        if aggregator is None:
            return pb.HealthReply(serving=False)
        return pb.HealthReply(
            serving=self._clerk.desk.ready,
            slot=aggregator.book.slot,
            market_ns=aggregator.now_ns(),
            pools=len(aggregator.book.pools),
            subscriptions=len(self._hub.subscriptions),
        )

    def _changes(self, subscription: Subscription) -> Any:
        aggregator = self._clerk.desk.aggregator()
        if aggregator is None:
            return None
        changes = subscription.take(
            self._clerk.desk.answer,
            slot=aggregator.book.slot,
            market_ns=aggregator.now_ns(),
            now_ns=self._context.clock(),
            producer=self._context.name,
        )
        if changes is None:
            return None
        return pb.QuoteChanges(
            sequence=changes.sequence,
            snapshot=changes.snapshot,
            slot=changes.slot,
            market_ns=changes.market_ns,
            pairs=[_pair_quotes(pair) for pair in changes.pairs],
        )


class _Guard(aio.ServerInterceptor):  # type: ignore[misc]  # grpcio has no types
    """Lets in who brings the token."""

    def __init__(self, token: str) -> None:
        self._wanted = f"Bearer {token}".encode()

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any) -> Any:
        for key, value in handler_call_details.invocation_metadata:
            given = value if isinstance(value, bytes) else str(value).encode()
            if key == "authorization" and hmac.compare_digest(given, self._wanted):
                return await continuation(handler_call_details)
        handler = await continuation(handler_call_details)
        return _closed(handler)


def _closed(handler: Any) -> Any:
    """Return what answers a call without the token: of the same kind as the method, or it would not be sent."""

    async def refuse(_request: Any, context: Any) -> Any:
        words = "send the token as metadata: authorization: Bearer <serve.grpc_token>"
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, words)

    async def refuse_stream(request: Any, context: Any) -> AsyncIterator[Any]:
        yield await refuse(request, context)

    if handler is None:
        return grpc.unary_unary_rpc_method_handler(refuse)
    if handler.request_streaming and handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler(refuse_stream)
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(refuse_stream)
    return grpc.unary_unary_rpc_method_handler(refuse)


async def _refuse(context: Any, problem: Problem | int, words: str) -> None:
    """End a call with its problem; does not come back."""
    await context.abort(_STATUS.get(Problem(problem), grpc.StatusCode.INTERNAL), words)


def _asked(pair: Any) -> AskedPair:
    return AskedPair(
        pair=pair.pair,
        token_in=pair.token_in,
        token_out=pair.token_out,
        amount=pair.amount,
        reverse_amount=pair.reverse_amount,
    )


def _pair_quotes(pair: PairQuotes) -> Any:
    return pb.PairQuotes(
        token_in=pair.token_in,
        token_out=pair.token_out,
        amount_in=pair.amount_in,
        forward=[_quote(quote) for quote in pair.forward],
        reverse=[_quote(quote) for quote in pair.reverse],
        problem=f"{enum_name(pair.problem).lower()}: {pair.detail}" if pair.problem else "",
        local_left_out=pair.local_left_out,
        external_follows=pair.external_follows,
    )


def _quote(quote: Quote) -> Any:
    return pb.Quote(
        provider=quote.provider,
        pool=quote.pool,
        protocol=enum_name(quote.protocol),
        token_in=quote.token_in,
        token_out=quote.token_out,
        amount_in=quote.amount_in,
        amount_out=quote.amount_out,
        price_impact_bps=quote.price_impact_bps,
        slot=quote.slot,
        quoted_ns=quote.quoted_ns,
        hops=quote.hops,
        route=quote.route,
        oracle_amount_out=quote.oracle_amount_out,
        confidence=quote.confidence,
        age_factor=quote.age_factor,
        hops_factor=quote.hops_factor,
        oracle_factor=quote.oracle_factor,
        provider_factor=quote.provider_factor,
        slippage_factor=quote.slippage_factor,
        band=f"BAND_{enum_name(quote.band)}",
        staleness=f"STALENESS_{enum_name(quote.staleness)}",
    )
