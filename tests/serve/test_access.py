"""Who may ask for what: keys, scopes, hosts, other sites, rates and places; and what the browser is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from medrail.config import PacsConfig
from medrail.errors import ServeError
from medrail.serve import Settings
from medrail.serve.access import PUBLIC_PATHS, Caller, check_start, counted_by, keys_required, needs
from medrail.serve.keys import SCOPES, add_key, revoke_key
from medrail.serve.problems import Refusal
from medrail.serve.rate import Buckets, Places, is_loopback, neighbourhood

ELSEWHERE = "10.1.2.3"  # a host that other machines can reach; the tests listen on this one all the same


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    made = {scope: add_key(file, scope, scope) for scope in SCOPES}
    ended = add_key(file, "ended", "admin")
    revoke_key(file, "ended")
    texts = {scope: text for scope, (_, text) in made.items()}
    return {"file": file, "id": made["predict"][0].id, **texts, "ended": ended[1]}


@pytest.fixture(scope="module")
def closed(serving, classifier, keys, tmp_path_factory) -> Any:
    """A service that other machines could reach, with keys, and a route of an administrator."""
    with serving(tmp_path_factory.mktemp("closed"), classifier, host=ELSEWHERE, key_file=keys["file"]) as service:
        yield service


def kind_of(response: Any) -> str:
    assert response.headers["content-type"] == "application/problem+json"
    return response.json()["type"].rpartition(":")[2]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_every_route_but_the_public_ones_needs_a_key(closed) -> None:
    schema = closed.client.get("/openapi.json").json()
    for path, methods in schema["paths"].items():
        for method in methods:
            response = closed.client.request(method, path.replace("{name}", "chest"))
            assert (response.status_code == 401) == (path not in PUBLIC_PATHS), path
    for path in ("/metrics", "/v1/admin/models", "/v1/x", "/nothing", "/static", "/V1/models", "/v1/models/"):
        assert closed.client.get(path).status_code == 401, path
    for path in ("/static/%2e%2e/v1/models", "/static/..%2f..%2fv1%2fmodels", "/static/%2fetc%2fpasswd"):
        assert closed.client.get(path).status_code == 404, path
    for path in ("/", "/docs", "/openapi.json", "/healthz", "/readyz", "/static/page.js"):
        assert closed.client.get(path).status_code == 200, path


def test_a_key_opens_what_its_scope_says(closed, keys, blob_png) -> None:
    for headers in (bearer(keys["predict"]), {"X-API-Key": keys["predict"]}, bearer(keys["admin"])):
        assert closed.client.get("/v1/models", headers=headers).status_code == 200
        assert closed.predict(blob_png, headers=headers).status_code == 200
    refused = closed.client.get("/v1/admin/models", headers=bearer(keys["predict"]))
    assert (refused.status_code, kind_of(refused)) == (403, "forbidden")
    assert closed.client.get("/v1/admin/nothing", headers=bearer(keys["admin"])).status_code == 404


def test_the_pacs_is_for_keys_of_a_scope_of_its_own(serving, classifier, keys, blob_png, tmp_path) -> None:
    pytest.importorskip("highdicom")
    pacs = PacsConfig(url="http://127.0.0.1:9/dicom-web")  # never asked: the searches say nobody
    with serving(tmp_path, classifier, host=ELSEWHERE, key_file=keys["file"], pacs=pacs) as service:
        found = {}
        for scope in SCOPES:
            answer = service.client.post("/v1/pacs/search", json={}, headers=bearer(keys[scope]))
            found[scope] = (answer.status_code, kind_of(answer))
        past, refused = (422, "bad-parameter"), (403, "forbidden")
        assert found == {"predict": refused, "pacs": past, "admin": past}
        assert service.client.post("/v1/pacs/search", json={}).status_code == 401
        assert service.predict(blob_png, headers=bearer(keys["pacs"])).status_code == 200
        assert service.client.get("/v1/admin/models", headers=bearer(keys["pacs"])).status_code == 403
        for place in ("/v1/pacs", "/v1/pacs/studies", "/v1/pacs/studies/1.2/series", "/v1/pacs/jobs/x/seg.dcm"):
            assert service.client.get(place, headers=bearer(keys["predict"])).status_code == 403, place


def test_wrong_keys(closed, keys) -> None:
    for headers in (
        {},
        bearer("x"),
        bearer(keys["ended"]),
        bearer(keys["predict"][:-1]),
        bearer(keys["predict"] + " x"),
        {"Authorization": f"Basic {keys['predict']}"},
        {"Authorization": keys["predict"]},
        {"X-API-Key": ""},
        {"X-API-Key": "x", **bearer(keys["predict"])},
    ):
        response = closed.client.get("/v1/models", headers=headers)
        assert (response.status_code, kind_of(response)) == (401, "unauthorised"), headers
        assert response.headers["www-authenticate"].startswith("Bearer")
    assert closed.client.get("/v1/models", params={"key": keys["predict"]}).status_code == 401


def test_the_log_names_the_key_and_never_holds_it(closed, keys, blob_png) -> None:
    closed.predict(blob_png, headers=bearer(keys["predict"]))
    assert f'"key_id": "{keys["id"]}"' in closed.audit.read_text(encoding="utf-8")
    for log in (closed.audit, closed.log):
        assert keys["predict"][17:] not in log.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("host", "opened", "required"),
    [
        (None, None, False),
        ("127.0.0.1", None, False),
        ("127.9.9.9", None, False),
        ("::1", None, False),
        ("::ffff:127.0.0.1", None, False),
        ("0.0.0.0", None, True),
        ("::", None, True),
        (ELSEWHERE, None, True),
        ("0.0.0.0", True, False),
        ("127.0.0.1", False, True),
    ],
)
def test_when_keys_are_required(tmp_path: Path, host, opened, required) -> None:
    settings = Settings(host=host, open=opened, key_file=tmp_path / "keys.json")
    assert keys_required(settings) is required
    if required:
        with pytest.raises(ServeError, match="no key yet") as failed:
            check_start(settings)
        assert "medrail key add" in failed.value.remedy
        add_key(tmp_path / "keys.json", "a", "predict")
        check_start(settings)
        revoke_key(tmp_path / "keys.json", "a")
        with pytest.raises(ServeError, match="no key yet"):
            check_start(settings)
    else:
        check_start(settings)


def test_at_this_machine_nobody_needs_a_key_until_there_are_keys(start, classifier, tmp_path, blob_png) -> None:
    file = tmp_path / "keys.json"
    service = start(classifier, host="127.0.0.1", key_file=file)
    assert service.predict(blob_png).status_code == 200
    assert service.client.get("/v1/admin/x").status_code == 404
    add_key(file, "operator", "admin")
    assert service.predict(blob_png).status_code == 200
    assert service.client.get("/v1/admin/x").status_code == 401
    wrong = service.client.get("/v1/models", headers=bearer("x"))
    assert wrong.status_code == 401


def test_a_key_file_that_goes_away_makes_nobody_an_administrator(start, classifier, tmp_path) -> None:
    file = tmp_path / "keys.json"
    add_key(file, "operator", "admin")
    service = start(classifier, host="127.0.0.1", key_file=file)
    assert service.client.get("/v1/admin/models").status_code in (401, 403)
    file.unlink()
    assert service.client.get("/v1/admin/models").status_code in (401, 403)


def test_open_to_all_is_not_open_to_administrators(start, classifier, blob_png) -> None:
    service = start(classifier, host="0.0.0.0", open=True)
    assert service.predict(blob_png).status_code == 200
    assert service.client.get("/v1/admin/x").status_code == 401


def test_what_comes_through_a_proxy_does_not_sit_at_this_machine(start, classifier) -> None:
    service = start(classifier, host="127.0.0.1")
    assert service.client.get("/v1/models").status_code == 200
    assert service.client.get("/v1/models", headers={"X-Forwarded-For": "203.0.113.9"}).status_code == 401
    said = start(classifier, host="127.0.0.1", open=True)
    assert said.client.get("/v1/models", headers={"X-Forwarded-For": "203.0.113.9"}).status_code == 200
    assert said.client.get("/v1/admin/x", headers={"Forwarded": "for=203.0.113.9"}).status_code == 401


def test_names_that_others_may_point_at_this_machine(start, classifier, keys) -> None:
    service = start(classifier, host="127.0.0.1")
    for host, status in (("localhost", 200), ("127.0.0.1:80", 200), ("[::1]:9", 200), ("evil.example", 400), ("", 400)):
        assert service.client.get("/v1/models", headers={"Host": host}).status_code == status, host
    named = start(classifier, host=ELSEWHERE, open=True, allowed_hosts=("pacs.example",))
    assert named.client.get("/v1/models", headers={"Host": "PACS.example:443"}).status_code == 200
    assert kind_of(named.client.get("/", headers={"Host": "evil.example"})) == "wrong-host"


def test_pages_of_other_sites(start, classifier, blob_png) -> None:
    service = start(classifier)
    own = str(service.client.base_url).rstrip("/")
    for headers, status in (
        ({"Sec-Fetch-Site": "same-origin", "Origin": own}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": own}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ):
        response = service.predict(blob_png, headers=headers)
        assert response.status_code == status, headers
        assert "access-control-allow-origin" not in response.headers
    preflight = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    assert service.client.options("/v1/predict/image", headers=preflight).status_code == 405


def test_sites_that_are_named_may_call(start, classifier, keys, blob_png) -> None:
    site = "https://viewer.example"
    service = start(classifier, host=ELSEWHERE, key_file=keys["file"], cors_origins=(site,))
    asked = {"Origin": site, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    preflight = service.client.options("/v1/predict/image", headers=asked)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == site
    assert "access-control-allow-credentials" not in preflight.headers
    for_a_job = asked | {"Access-Control-Request-Headers": "x-api-key, prefer"}
    assert service.client.options("/v1/predict/volume", headers=for_a_job).status_code == 200
    headers = {"Origin": site, "Sec-Fetch-Site": "cross-site", "X-API-Key": keys["predict"]}
    answered = service.predict(blob_png, headers=headers)
    assert (answered.status_code, answered.headers["access-control-allow-origin"]) == (200, site)
    assert {"Location", "Retry-After"} <= set(answered.headers["access-control-expose-headers"].split(", "))
    refused = service.predict(blob_png, headers={"Origin": site, "Sec-Fetch-Site": "cross-site"})
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, site)
    other = service.predict(blob_png, headers=headers | {"Origin": "https://evil.example"})
    assert other.status_code == 403
    assert service.client.options("/v1/models", headers=asked | {"Origin": "https://evil.example"}).status_code == 400


@pytest.mark.parametrize("origin", ["*", "https://*.example", "https://a.example/", "javascript:x", "null", ""])
def test_origins_that_are_none(origin) -> None:
    with pytest.raises(ValidationError):
        Settings(cors_origins=(origin,))


def test_a_rate_is_one_keys_own(start, classifier, keys) -> None:
    service = start(classifier, host=ELSEWHERE, key_file=keys["file"], rate_per_s=0.001, rate_burst=3)
    statuses = [service.client.get("/v1/models", headers=bearer(keys["predict"])).status_code for _ in range(5)]
    assert statuses == [200] * 3 + [429] * 2
    refused = service.client.get("/v1/models", headers=bearer(keys["predict"]))
    assert (kind_of(refused), refused.headers["retry-after"]) == ("too-many-requests", "1000")
    assert service.client.get("/v1/models", headers=bearer(keys["admin"])).status_code == 200
    assert [service.client.get("/v1/models").status_code for _ in range(5)] == [401] * 3 + [429] * 2
    assert service.client.get("/healthz").status_code == 200


def test_requests_at_this_machine_are_not_counted(start, classifier) -> None:
    service = start(classifier, rate_per_s=0.001, rate_burst=1, max_requests_per_key=1)
    assert {service.client.get("/v1/models").status_code for _ in range(5)} == {200}


def test_buckets_fill_again() -> None:
    now = 0.0
    buckets = Buckets(2.0, 3, clock=lambda: now)
    for _ in range(3):
        buckets.take("a")
    with pytest.raises(Refusal) as refused:
        buckets.take("a")
    assert refused.value.retry_after_s == 1
    buckets.take("b")
    now = 0.5
    buckets.take("a")
    with pytest.raises(Refusal):
        buckets.take("a")
    now = 1000.0
    for _ in range(3):
        buckets.take("a")
    with pytest.raises(Refusal):
        buckets.take("a")


def test_buckets_of_very_many_senders_are_bounded() -> None:
    buckets = Buckets(1.0, 1, clock=lambda: 0.0)
    for number in range(10_500):
        buckets.take(str(number))
    assert len(buckets._levels) == 10_000
    Buckets(0, 1).take("a")


def test_places_are_given_back_once() -> None:
    places = Places(2, "too-many-jobs")
    first, _ = places.take("a"), places.take("a")
    with pytest.raises(Refusal) as refused:
        places.take("a")
    assert refused.value.kind == "too-many-jobs"
    places.take("b")
    first()
    first()
    places.take("a")
    with pytest.raises(Refusal):
        places.take("a")
    for _ in range(99):
        Places(0, "too-many-jobs").take("a")


def test_who_counts_as_one_sender() -> None:
    assert neighbourhood("203.0.113.9") == "203.0.113.9"
    assert neighbourhood("::ffff:203.0.113.9") == "203.0.113.9"
    assert neighbourhood("2001:db8::1") == neighbourhood("2001:db8::ffff") != neighbourhood("2001:db8:0:1::1")
    assert neighbourhood("fe80::1%eth0") == neighbourhood("fe80::2")
    assert neighbourhood("unix") == "unix"
    assert is_loopback("localhost")
    assert not is_loopback("localhost.evil.example")
    assert not is_loopback("")


def test_requests_in_work_of_one_key(classifier, keys, tmp_path) -> None:
    """The third of three at a time is told to come back; when one is done there is a place again."""
    from medrail.serve.access import Access

    async def main() -> list[int]:
        go_on = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await go_on.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body"})

        settings = Settings(host=ELSEWHERE, key_file=keys["file"], max_requests_per_key=2)
        access = Access(app, settings)
        statuses: list[int] = []

        async def ask(key: str) -> None:
            async def send(message: Any) -> None:
                if message["type"] == "http.response.start":
                    statuses.append(message["status"])

            scope = {
                "type": "http",
                "path": "/v1/models",
                "client": (ELSEWHERE, 1),
                "headers": [(b"x-api-key", key.encode())],
                "state": {"record": {}, "request_id": "x"},
            }
            await access(scope, _nothing, send)

        waiting = [asyncio.create_task(ask(keys["predict"])) for _ in range(3)]
        waiting.append(asyncio.create_task(ask(keys["admin"])))
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(*waiting)
        await ask(keys["predict"])
        return statuses

    assert asyncio.run(main()) == [429, 200, 200, 200, 200]


def test_what_routes_ask_for_themselves() -> None:
    def request(caller: Caller | None) -> Any:
        return SimpleNamespace(state=SimpleNamespace(caller=caller))

    predict, admin = frozenset({"predict"}), frozenset({"predict", "admin"})
    operator = Caller("a", admin, "key a")
    assert asyncio.run(needs("admin")(request(operator))) is operator
    for caller, kind in (
        (Caller("b", predict, "key b"), "forbidden"),
        (Caller("", predict, "address x"), "unauthorised"),
        (None, "unauthorised"),
    ):
        with pytest.raises(Refusal) as refused:
            asyncio.run(needs("admin")(request(caller)))
        assert refused.value.kind == kind
    assert counted_by(request(operator)) == "key a"
    assert counted_by(request(Caller("", predict, "address x"))) == "address x"
    assert counted_by(request(Caller("", admin, "address 127.0.0.1", limited=False))) == ""


async def _nothing() -> Any:
    return {"type": "http.disconnect"}


OWASP: dict[str, Callable[[str], bool]] = {
    "x-frame-options": lambda value: value.lower() == "deny",
    "x-content-type-options": lambda value: value == "nosniff",
    "content-security-policy": lambda value: "default-src 'none'" in value and "frame-ancestors 'none'" in value,
    "x-permitted-cross-domain-policies": lambda value: value == "none",
    "referrer-policy": lambda value: value == "no-referrer",
    "cross-origin-embedder-policy": lambda value: value == "require-corp",
    "cross-origin-opener-policy": lambda value: value == "same-origin",
    "cross-origin-resource-policy": lambda value: value == "same-origin",
    "permissions-policy": lambda value: "camera=()" in value and "*" not in value,
    "cache-control": lambda value: "no-store" in value or value == "no-cache",
    "x-dns-prefetch-control": lambda value: value == "off",
}
TELL_TALES = ("server", "x-powered-by", "x-aspnet-version", "access-control-allow-origin", "set-cookie")


@pytest.mark.parametrize("path", ["/", "/docs", "/v1/models", "/nothing", "/static/page.js", "/healthz"])
def test_headers_as_owasp_recommends_them(closed, path) -> None:
    headers = closed.client.get(path).headers
    for name, is_right in OWASP.items():
        assert is_right(headers.get(name, "")), name
    assert not [name for name in TELL_TALES if name in headers]
    assert "strict-transport-security" not in headers  # over plain HTTP browsers ignore it, and must


def test_the_description_says_how_keys_are_sent(closed) -> None:
    schema = closed.client.get("/openapi.json").json()
    assert set(schema["components"]["securitySchemes"]) == {"bearer", "apiKey"}
    for path, methods in schema["paths"].items():
        for operation in methods.values():
            assert ("security" in operation) == (path not in PUBLIC_PATHS)
            assert ("401" in operation["responses"]) == (path not in PUBLIC_PATHS)
