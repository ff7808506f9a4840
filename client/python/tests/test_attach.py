"""Tests the requests that attach takes from ccxt and gives back, with an agent in this process
instead of a token.
"""

import asyncio
import threading
import time
import unittest

import ccxt
import ccxt.async_support
import ccxt.pro

from countersign import Refused, Unavailable, attach
from countersign._attach import STAND_IN


class Recorder:
    """Stands in for an agent: records each question and answers with the same request, "signed"."""

    def __init__(self, error=None, change=lambda answer: answer):
        self.asked, self.error, self.change, self.threads = [], error, change, []

    def sign(self, key, method, path, params, params_in, host):
        self.asked.append((key, method, path, params, params_in, host))
        self.threads.append(threading.get_ident())
        if self.error:
            raise self.error
        url, body = f"https://{host}{path}", None
        if params_in == "json":
            body = params
        elif params:
            url += (
                "?"
                + "&".join(f"{name}={value}" for name, value in params.items())
                + "&signature=real"
            )
        return self.change(
            {"method": method, "url": url, "headers": [["X-MBX-APIKEY", "real"]], "body": body}
        )


def attached(exchange, agent):
    """The exchange attached to `agent`, and the list of the requests it sends."""
    sent = []

    def send(url, method="GET", headers=None, body=None):
        sent.append((url, method, headers, body))
        return {}

    exchange.fetch = send
    return attach(exchange, "k", agent), sent


class WhatIsAsked(unittest.TestCase):
    def asked(self, exchange, call, *arguments):
        recorder = Recorder(error=Refused("policy.scope", "enough"))
        exchange, sent = attached(exchange, recorder)
        with self.assertRaises(Refused):
            getattr(exchange, call)(*arguments)
        self.assertEqual(sent, [])
        return recorder.asked[0][1:]

    def test_the_business_request_and_nothing_else(self):
        json = "json"
        spot, futures = "api.binance.com", "fapi.binance.com"
        okx, kraken = "www.okx.com", "api.kraken.com"
        cases = [
            (ccxt.binance, "private_get_account", {}, ("GET", "/api/v3/account", None, None, spot)),
            (
                ccxt.binance,
                "private_get_allorders",
                {"symbol": "A", "limit": 5, "x": True, "y": 1e-7},
                (
                    "GET",
                    "/api/v3/allOrders",
                    {"symbol": "A", "limit": "5", "x": "true", "y": "1e-07"},
                    None,
                    spot,
                ),
            ),
            (
                ccxt.binance,
                "private_get_account",
                {"recvWindow": 5000},
                ("GET", "/api/v3/account", {"recvWindow": "5000"}, None, spot),
            ),
            (
                ccxt.binance,
                "sapi_post_asset_dust",
                {"asset": ["BTC", "ETH"]},
                ("POST", "/sapi/v1/asset/dust", {"asset": ["BTC", "ETH"]}, None, spot),
            ),
            (
                ccxt.binance,
                "sapi_post_capital_withdraw_apply",
                {"coin": "XRP", "address": "r#&", "name": "é"},
                None,
            ),
            (
                ccxt.binance,
                "sapi_post_capital_withdraw_apply",
                {"coin": "XRP", "name": "my é+wallet"},
                None,
            ),
            (
                ccxt.binanceusdm,
                "fapiprivate_post_batchorders",
                {"batchOrders": [{"quantity": "1.0", "newClientOrderId": "é"}]},
                (
                    "POST",
                    "/fapi/v1/batchOrders",
                    {"batchOrders": [{"quantity": "1.0", "newClientOrderId": "é"}]},
                    None,
                    futures,
                ),
            ),
            (
                ccxt.binanceusdm,
                "fapiprivate_delete_batchorders",
                {"symbol": "A", "orderidlist": ["1", "2"]},
                (
                    "DELETE",
                    "/fapi/v1/batchOrders",
                    {"symbol": "A", "orderidlist": [1, 2]},
                    None,
                    futures,
                ),
            ),
            (
                ccxt.binance,
                "sapi_post_simple_earn_flexible_subscribe",
                {"asset": "币安人生"},
                (
                    "POST",
                    "/sapi/v1/simple-earn/flexible/subscribe",
                    {"asset": "币安人生"},
                    None,
                    spot,
                ),
            ),
            (
                ccxt.bybit,
                "private_get_v5_order_history",
                {"cursor": "1%3A2%2C3", "symbol": "币安人生USDT"},
                (
                    "GET",
                    "/v5/order/history",
                    {"cursor": "1%3A2%2C3", "symbol": "币安人生USDT"},
                    None,
                    "api.bybit.com",
                ),
            ),
            (
                ccxt.bitget,
                "private_spot_get_v2_spot_trade_history_orders",
                {"idLessThan": "1%3A2=+/", "symbol": "$龙虾 %USDT"},
                (
                    "GET",
                    "/api/v2/spot/trade/history-orders",
                    {"idLessThan": "1%3A2=+/", "symbol": "$龙虾 %USDT"},
                    None,
                    "api.bitget.com",
                ),
            ),
            (
                ccxt.okx,
                "private_post_trade_batch_orders",
                [{"instId": "A", "sz": 1.0, "clOrdId": "é"}],
                (
                    "POST",
                    "/api/v5/trade/batch-orders",
                    '[{"instId":"A","sz":1.0,"clOrdId":"é"}]',
                    json,
                    okx,
                ),
            ),
            (
                ccxt.okx,
                "private_get_account_balance",
                {"ccy": "BTC,ETH"},
                ("GET", "/api/v5/account/balance", {"ccy": "BTC,ETH"}, None, okx),
            ),
            (
                ccxt.kraken,
                "private_post_balance",
                {},
                ("POST", "/0/private/Balance", None, None, kraken),
            ),
            (
                ccxt.kraken,
                "private_post_addorder",
                {"pair": "A", "close": {"ordertype": "limit", "price": "+5"}, "validate": True},
                (
                    "POST",
                    "/0/private/AddOrder",
                    {
                        "pair": "A",
                        "close": {"ordertype": "limit", "price": "+5"},
                        "validate": "True",
                    },
                    None,
                    kraken,
                ),
            ),
            (
                ccxt.kraken,
                "private_post_addorder",
                {"pair": "A", "price": "5%"},
                ("POST", "/0/private/AddOrder", '{"pair":"A","price":"5%"}', json, kraken),
            ),
        ]
        for kind, call, params, expected in cases:
            with self.subTest(call, params=params):
                if expected:
                    self.assertEqual(self.asked(kind(), call, params), expected)
                    continue
                # Without escapes it would be another value, or two parameters.
                exchange, sent = attached(kind(), Recorder())
                with self.assertRaises(ccxt.NotSupported):
                    getattr(exchange, call)(params)
                self.assertEqual(sent, [])

    def test_the_host_is_the_one_ccxt_chose(self):
        exchange = ccxt.binance()
        exchange.set_sandbox_mode(True)
        self.assertEqual(self.asked(exchange, "private_get_account")[4], "testnet.binance.vision")


class WhatIsSent(unittest.TestCase):
    def test_the_agents_request_with_ccxts_other_headers(self):
        exchange, sent = attached(ccxt.binance(), Recorder())
        build = exchange.sign
        exchange.sign = lambda *a, **k: (
            lambda built: {**built, "headers": {**built["headers"], "Broker": "b"}}
        )(build(*a, **k))
        exchange.private_get_openorders({"symbol": "A"})
        url = "https://api.binance.com/api/v3/openOrders?symbol=A&signature=real"
        self.assertEqual(sent, [(url, "GET", {"Broker": "b", "X-MBX-APIKEY": "real"}, None)])

    def test_public_requests_do_not_reach_the_agent(self):
        recorder = Recorder()
        exchange, sent = attached(ccxt.binance(), recorder)
        exchange.public_get_ticker_price({"symbol": "A"})
        self.assertEqual((len(sent), recorder.asked), (1, []))

    def test_another_request_than_ccxt_built_is_not_sent(self):
        changes = {
            "another host": lambda answer: {
                **answer,
                "url": answer["url"].replace("binance", "example"),
            },
            "another path": lambda answer: {
                **answer,
                "url": answer["url"].replace("openOrders", "order"),
            },
            "another value": lambda answer: {
                **answer,
                "url": answer["url"].replace("symbol=A", "symbol=B"),
            },
            "one parameter more": lambda answer: {**answer, "url": answer["url"] + "&x=1"},
            "another method": lambda answer: {**answer, "method": "DELETE"},
            "a body": lambda answer: {**answer, "body": "x=1"},
        }
        for name, change in changes.items():
            exchange, sent = attached(ccxt.binance(), Recorder(change=change))
            with self.subTest(name), self.assertRaises(ccxt.NotSupported):
                exchange.private_get_openorders({"symbol": "A"})
            self.assertEqual(sent, [])

    def test_the_parameter_that_differs_is_named_with_both_forms(self):
        def listed(answer):
            return {
                **answer,
                "url": "https://fapi.binance.com/fapi/v1/batchOrders"
                "?symbol=A&orderIdList=%5B1%2C2%5D",
            }

        exchange, sent = attached(ccxt.binanceusdm(), Recorder(change=listed))
        with self.assertRaisesRegex(
            ccxt.NotSupported, r"'orderIdList' as '\[1, 2\]', the agent signs it as '%5B1%2C2%5D'"
        ):
            exchange.fapiprivate_delete_batchorders({"symbol": "A", "orderIdList": [1, 2]})
        self.assertEqual(sent, [])

    def test_what_the_exchange_would_read_as_another_value_is_not_asked_for(self):
        list_, earn = "sapi_get_sub_account_list", "sapi_get_simple_earn_flexible_list"
        withdraw, batch = "sapi_post_capital_withdraw_apply", "fapiprivate_post_batchorders"
        cases = [
            (list_, {"email": "a+b@x.com"}, "email"),
            (list_, {"email": "a%2Bb@x.com"}, "email"),
            (earn, {"asset": "币安人生"}, "asset"),
            (withdraw, {"coin": "BTC", "name": "my wallet"}, "name"),
            (withdraw, {"coin": "BTC", "name": "é"}, "name"),
            (batch, {"batchOrders": [{"newClientOrderId": "a&b"}]}, None),
            (batch, {"batchOrders": [{"newClientOrderId": "a+b"}]}, "batchOrders"),
        ]
        for call, params, name in cases:
            recorder = Recorder()
            exchange, sent = attached(ccxt.binance(), recorder)
            with self.subTest(call, params=params), self.assertRaises(ccxt.NotSupported) as caught:
                getattr(exchange, call)(params)
            self.assertIn(repr(name) if name else "without a value", str(caught.exception))
            self.assertEqual((sent, recorder.asked), ([], []))

    def test_no_credential_of_the_bot_stays(self):
        exchange, _ = attached(
            ccxt.okx({"apiKey": "a", "secret": "b", "password": "c"}), Recorder()
        )
        self.assertEqual({exchange.apiKey, exchange.secret, exchange.password}, {STAND_IN})

    def test_nothing_is_ever_signed_here(self):
        exchange, _ = attached(ccxt.binance(), Recorder())
        for sign in (exchange.hmac, exchange.rsa, exchange.eddsa):
            with self.assertRaises(ccxt.NotSupported):
                sign(b"x", b"y")

    def test_exchanges_it_does_not_know_and_objects_attached_before_are_refused(self):
        with self.assertRaises(ccxt.NotSupported):
            attach(ccxt.coinmate(), "k", Recorder())
        exchange, _ = attached(ccxt.binance(), Recorder())
        with self.assertRaises(ValueError):
            attach(exchange, "k", Recorder())


class Errors(unittest.TestCase):
    def test_refusals_are_ours_and_ccxts(self):
        cases = [
            (Refused("policy.limit", "m", "id"), Refused, ccxt.PermissionDenied),
            (Refused("token.timeout", "m", "id"), Refused, ccxt.ExchangeNotAvailable),
            (Refused("policy.rate", "m", "id"), Refused, ccxt.ExchangeNotAvailable),
            (Unavailable("m"), Unavailable, ccxt.ExchangeNotAvailable),
        ]
        for error, ours, ccxts in cases:
            exchange, sent = attached(
                ccxt.kraken({"enableRateLimit": False}), Recorder(error=error)
            )
            for kind in (ours, ccxts):
                with self.subTest(str(error)), self.assertRaises(kind) as caught:
                    exchange.private_post_balance()
            self.assertEqual(vars(caught.exception).get("code"), vars(error).get("code"))
            self.assertEqual(sent, [])

    def test_the_exchanges_errors_stay_ccxts_own(self):
        exchange, _ = attached(ccxt.kraken(), Recorder())
        with self.assertRaises(ccxt.InsufficientFunds):
            text = '{"error":["EOrder:Insufficient funds"]}'
            exchange.handle_errors(
                200, "", "", "POST", {}, text, exchange.parse_json(text), {}, None
            )


class Async(unittest.TestCase):
    def test_the_loop_runs_while_the_agent_thinks(self):
        for kind in (ccxt.async_support.binance, ccxt.pro.binance):
            with self.subTest(kind.__module__):
                asyncio.run(self.call_while_ticking(kind))

    async def call_while_ticking(self, kind):
        recorder, sent, ticks = Recorder(change=lambda answer: time.sleep(0.3) or answer), [], 0

        async def send(*request):
            sent.append(request)
            return {}

        exchange = kind()
        exchange.fetch = send
        attach(exchange, "k", recorder)
        call = asyncio.ensure_future(exchange.private_get_openorders({"symbol": "A"}))
        while not call.done():
            ticks += 1
            await asyncio.sleep(0.01)
        await call
        await exchange.close()
        self.assertGreater(ticks, 5)
        self.assertNotIn(threading.get_ident(), recorder.threads)
        self.assertTrue(sent[0][0].endswith("?symbol=A&signature=real"), sent)


if __name__ == "__main__":
    unittest.main()
