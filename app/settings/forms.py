"""What the settings of every theme are made of: the base of a theme, and values of a form of
their own.

The text below a setting says what it means and why its default is what it is. It is the only one:
`docs/configuration.md` is made of it, with the docstring of the theme as its heading.
"""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SecretStr,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from app.known_secrets import remember

ENV_PREFIX = "GATEWAY_"
KIB = 1024
MIB = 1024 * KIB

UNREAD = "unread_file"  # the type of the error of a secret whose file cannot be read

_NETWORK_FORMS = (str, IPv4Network, IPv6Network)


class Theme(BaseModel):
    """Settings about one thing. `Settings` inherits all of them, so that their names in the
    environment and in the file are as any other's."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch_for_a_number(cls, value: object, info: ValidationInfo) -> object:
        """YAML reads `yes` and `on` as true, which would be taken for 1."""
        field = cls.model_fields.get(info.field_name or "")
        numbers = (int, float, int | None, float | None)
        if isinstance(value, bool) and field is not None and field.annotation in numbers:
            raise ValueError("must be a number")
        return value


def _network(value: object) -> object:
    """Of an address the network that is it alone; of IPv4 in IPv6 the IPv4."""
    try:
        # Text: a number would be taken for an address, too.
        network = ip_network(str(value).strip() if isinstance(value, _NETWORK_FORMS) else "")
    except ValueError:
        raise ValueError(
            "must be an address, or a network without host bits, for example 10.0.0.0/8"
        ) from None
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is not None and network.prefixlen >= 96:
        network = IPv4Network((mapped, network.prefixlen - 96))
    if network.prefixlen == 0:
        raise ValueError("names every address there is; name your own proxies")
    return network


Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]


@dataclass(frozen=True, slots=True)
class UnreadFile:
    """In place of a secret: why the file that holds it could not be read."""

    reason: str


def _given(value: object) -> object:
    if isinstance(value, UnreadFile):
        raise PydanticCustomError(UNREAD, "{reason}", {"reason": value.reason})
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if isinstance(text, str) and not text.strip():
        raise ValueError("is set but empty; give it a value or unset it")
    return value


Secret = Annotated[SecretStr, BeforeValidator(_given), AfterValidator(remember)]
