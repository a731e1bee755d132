"""The settings by themselves: can `serve` start with them, are the secrets any good, who is
believed."""

from collections.abc import Iterator, Sequence
from ipaddress import ip_address

from pydantic import SecretStr

from app.doctor.finding import Finding, failed, skipped, warned, well
from app.doctor.startable import ALONE, faults_of
from app.doctor.visit import Visit
from app.settings import SECRETS, Settings, unknown_variables

# 16 random bytes in hexadecimal digits: less can be searched for, with a stolen table in hand.
MIN_SECRET_CHARACTERS = 32
# A token that is tried over the network, 30 times a minute from one address.
MIN_TOKEN_CHARACTERS = 20
# Words of examples, and what is typed to get on.
PLACEHOLDERS = ("changeme", "change-me", "change_me", "example", "placeholder", "secret", "test")
MAKE_ONE = "make one with `openssl rand -base64 32`"


def check(visit: Visit) -> Sequence[Finding]:
    settings = visit.settings
    return [*_settings(settings), *_secrets(settings), _limits(settings), _proxies(settings)]


def _settings(settings: Settings) -> Iterator[Finding]:
    faults = faults_of(settings, ALONE)
    for fault in faults:
        yield failed("settings", fault, "`gateway serve` does not start with it")
    if not faults:
        given = len(settings.model_fields_set)
        yield well("settings", f"{given} are set, the others are as by default")
    for variable in unknown_variables():
        yield warned("settings", f"{variable} is not a setting", "is it a typing error?")


def _secrets(settings: Settings) -> Iterator[Finding]:
    named = ("key_pepper", "admin_token")
    given = {name: text for name in named if (text := _text(settings, name))}
    weak = False
    for name, text in given.items():
        variable = f"GATEWAY_{name.upper()}"
        least = MIN_SECRET_CHARACTERS if name == "key_pepper" else MIN_TOKEN_CHARACTERS
        advice = MAKE_ONE
        if name == "key_pepper":
            advice += ", before there are keys: with another pepper all of them are lost"
        if any(word in text.lower() for word in PLACEHOLDERS) and len(text) < MIN_SECRET_CHARACTERS:
            weak = True
            yield failed("secrets", f"{variable} is a placeholder", advice)
        elif len(text) < least or len(set(text)) < least // 4:
            weak = True
            words = f"{variable} has {len(text)} characters, {len(set(text))} of them different"
            yield warned("secrets", words, advice)
    if len(set(given.values())) < len(given):
        weak = True
        yield warned("secrets", "GATEWAY_ADMIN_TOKEN is the pepper", "give each a value of its own")
    if not weak:
        present = [f"GATEWAY_{name.upper()}" for name in SECRETS if _text(settings, name)]
        yield well("secrets", ", ".join(present) or "none is set")


def _text(settings: Settings, name: str) -> str:
    value = getattr(settings, name)
    return value.get_secret_value().strip() if isinstance(value, SecretStr) else ""


def _limits(settings: Settings) -> Finding:
    if settings.redis_url is not None:
        return well("limits", "over all replicas, in Redis")
    if settings.replicas > 1:
        times = f"{settings.replicas} processes allow {settings.replicas} times as much"
        return warned("limits", f"in each process alone: {times}", "set GATEWAY_REDIS_URL")
    return skipped("limits", "in each process alone, as GATEWAY_REDIS_URL is not set")


def _proxies(settings: Settings) -> Finding:
    if settings.trusted_proxies:
        networks = ", ".join(map(str, settings.trusted_proxies))
        return well("proxies", f"X-Forwarded-For is believed from {networks}")
    if _is_local(settings.host):
        return well("proxies", f"none, and it listens on {settings.host} alone")
    return well("proxies", "none: behind a load balancer all clients share its address, for which "
                "GATEWAY_TRUSTED_PROXIES is")  # fmt: skip


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
