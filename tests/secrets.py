"""Secrets of every known kind, made up; put together at run time, so that no file holds one."""

from __future__ import annotations

import random
import string
from collections.abc import Mapping

_ALNUM = string.ascii_letters + string.digits
_HEX = "0123456789abcdef"


def _made(length: int, alphabet: str = _ALNUM) -> str:
    """Characters by chance, always the same; with a letter and a digit in the first twelve."""
    rng = random.Random(length)
    start = "a1B2" if alphabet == _ALNUM else ""
    return start + "".join(rng.choice(alphabet) for _ in range(length - len(start)))


def _key_block(kind: str, line_end: str) -> str:
    body = line_end.join(_made(64 - n % 2, _ALNUM + "+/") for n in range(12))
    return f"-----BEGIN {kind}-----{line_end}{body}{line_end}-----END {kind}-----"


JWT = f"eyJ{_made(20)}.eyJ{_made(60)}.{_made(43)}"

SECRETS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "private_key": (
        ("", _key_block("RSA PRIVATE KEY", "\n")),
        ("", _key_block("OPENSSH PRIVATE KEY", "\r\n")),
        ('{"type": "service_account", "private_key": "', _key_block("PRIVATE KEY", "\\n")),
    ),
    "anthropic_key": (("key ", "sk-" + f"ant-api03-{_made(95)}"),),
    "openrouter_key": (("key ", "sk-" + f"or-v1-{_made(64, _HEX)}"),),
    "openai_key": (
        ("", "sk-" + _made(48)),
        ("using key: ", "sk-" + f"proj-{_made(120)}"),
        ("Incorrect API key provided: ", "sk-" + f"svcacct-{_made(100)}"),
    ),
    "google_api_key": (("?key=", "AIza" + _made(35)),),
    "google_oauth": (("token ", "ya29." + _made(60)), ("", "GOCSPX-" + _made(28))),
    "github_token": (
        ("", "ghp_" + _made(36)),
        ("remote: ", "github_pat_" + f"{_made(22)}_{_made(59)}"),
        ("", "ghs_" + _made(36)),
    ),
    "gitlab_token": (("", "glpat-" + _made(20)),),
    "slack_token": (("", "xoxb-" + f"123456789012-123456789012-{_made(24)}"),),
    "slack_webhook": (("https://hooks.slack.com/services/", f"T0/B0/{_made(24)}"),),
    "stripe_key": (("", "sk_" + f"live_{_made(24)}"), ("", "whsec_" + _made(32))),
    "huggingface_token": (("", "hf_" + _made(34)),),
    "groq_key": (("", "gsk_" + _made(52)),),
    "xai_key": (("", "xai-" + _made(80)),),
    "perplexity_key": (("", "pplx-" + _made(48)),),
    "replicate_token": (("", "r8_" + _made(37)),),
    "nvidia_key": (("", "nvapi-" + _made(64)),),
    "package_token": (("", "npm_" + _made(36)), ("", "pypi-AgE" + _made(90))),
    "sendgrid_key": (("", "SG." + f"{_made(22)}.{_made(43)}"),),
    "cloud_token": (("", "dop_v1_" + _made(64, _HEX)), ("", "hvs." + _made(24))),
    "aws_access_key_id": (("id ", "AKIA" + _made(16, string.ascii_uppercase)),),
    "aws_secret": (
        ("aws_secret_access_key = ", _made(40, _ALNUM + "/+")),
        ('"SecretAccessKey": "', _made(40)),
    ),
    "azure_key": (("AccountName=x;AccountKey=", _made(86, _ALNUM + "+/") + "=="),),
    "azure_signature": (("https://x.blob.core.windows.net/c?sv=1&sig=", _made(43) + "%3D"),),
    "jwt": (("token ", JWT),),
    "bearer_token": (("X-Auth: Bearer ", _made(40)),),
    "authorization": (("Authorization: Basic ", _made(24) + "=="),),
    "named_key": (
        ("MISTRAL_API_KEY=", _made(32)),
        ('"api-key": "', _made(32, _HEX)),
        ("COHERE_API_KEY: ", _made(40)),
    ),
    "url_password": (("postgresql://runoff:", "hunter2!"),),
}
"""Kind → what may stand in front of such a secret, and the secret itself."""

AFTER = {"url_password": "@db.internal:5432/x"}
"""What must follow a secret, so that it is one."""


def printed(kind: str, before: str, secret: str) -> str:
    """A line of output that shows a secret."""
    return f"step 3 says {before}{secret}{AFTER.get(kind, '')} and goes on\n"
