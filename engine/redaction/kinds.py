"""The kinds of secrets that are known by their shape, with the source of each.

Each kind has *anchors*, pieces of text without which it cannot stand there, so that output without
secrets costs a few searches for fixed bytes and no regular expression.  Anchors of a name that may
be written in any case are in small letters.  Group ``secret`` is what
gets covered, the whole match without one.  Every repetition is bounded.
"""

import re
from functools import cache
from typing import NamedTuple

TOKEN_BYTES_MAX = 4096
PRIVATE_KEY_BYTES_MAX = 16 * 1024
_T = TOKEN_BYTES_MAX


class Kind(NamedTuple):
    """One kind of secret.

    ``random``: the secret must look made by chance, which keeps words that begin like a key:
    a run of at least twelve letters and digits, with both among them.  A group that is called
    ``by_chance`` must whatever its kind.
    ``any_case``: anchors are sought in small letters.
    """

    name: str
    anchors: tuple[str, ...]
    pattern: str
    source: str
    date: str
    random: bool = False
    any_case: bool = False


_QUOTED = r"""["']?\s{0,3}[:=]\s{0,3}["']?"""
_VALUE = r"[A-Za-z0-9._~+/-]"
_UUID = r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![A-Za-z0-9._~+/-])"

KINDS = (
    Kind(
        "private_key",
        ("PRIVATE KEY",),
        r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
        rf"(?P<secret>(?:(?!-----)[^\x00]){{1,{PRIVATE_KEY_BYTES_MAX}}}?(?=-----END )"
        rf"|[A-Za-z0-9+/=\s\\,:-]{{1,{PRIVATE_KEY_BYTES_MAX}}})",
        "RFC 7468, OpenSSH, OpenPGP; also with \\n for line ends, as in service account files",
        "2026-11-26",
    ),
    Kind(
        "anthropic_key",
        ("sk-ant-",),
        rf"sk-ant-[A-Za-z0-9_-]{{16,{_T}}}",
        "Anthropic console",
        "2026-11-26",
    ),
    Kind(
        "openrouter_key",
        ("sk-or-",),
        rf"sk-or-[A-Za-z0-9_-]{{20,{_T}}}",
        "OpenRouter settings",
        "2026-11-26",
        random=True,
    ),
    Kind(
        "openai_key",
        ("sk-",),
        rf"sk-(?!ant-|or-)[A-Za-z0-9_-]{{20,{_T}}}",
        "OpenAI platform (sk-, sk-proj-, sk-svcacct-, sk-admin-); DeepSeek and others share it",
        "2026-11-26",
        random=True,
    ),
    Kind(
        "google_api_key",
        ("AIza",),
        r"AIza[A-Za-z0-9_-]{35}",
        "Google Cloud, Gemini API",
        "2026-11-26",
    ),
    Kind(
        "google_oauth",
        ("ya29.", "GOCSPX-"),
        rf"(?:ya29\.[A-Za-z0-9_-]{{20,{_T}}}|GOCSPX-[A-Za-z0-9_-]{{20,64}})",
        "Google OAuth 2.0",
        "2026-11-26",
    ),
    Kind(
        "github_token",
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        r"(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255})",
        "GitHub, about authentication",
        "2026-11-26",
    ),
    Kind(
        "gitlab_token",
        ("glpat-", "gldt-", "glrt-", "glptt-", "glcbt-", "glft-", "gloas-", "glsoat-"),
        r"gl(?:pat|dt|rt|ptt|cbt|ft|oas|soat)-[A-Za-z0-9_.-]{20,300}",
        "GitLab, token overview",
        "2026-11-26",
    ),
    Kind(
        "slack_token",
        ("xox", "xapp-"),
        r"(?:xox[abeoprs](?:\.xox[bp])?-[A-Za-z0-9-]{10,300}|xapp-\d-[A-Za-z0-9-]{10,300})",
        "Slack, token types",
        "2026-11-26",
    ),
    Kind(
        "slack_webhook",
        ("hooks.slack.com/",),
        r"hooks\.slack\.com/(?:services|workflows)/(?P<secret>[A-Za-z0-9+/]{20,200})",
        "Slack, incoming webhooks",
        "2026-11-26",
    ),
    Kind(
        "stripe_key",
        ("k_live_", "k_test_", "whsec_"),
        r"(?:[sr]k_(?:live|test)_[A-Za-z0-9]{16,255}|whsec_[A-Za-z0-9+/=]{24,255})",
        "Stripe, API keys",
        "2026-11-26",
    ),
    Kind(
        "huggingface_token",
        ("hf_", "api_org_"),
        r"(?:hf_[A-Za-z0-9]{30,120}|api_org_[A-Za-z0-9]{30,120})",
        "Hugging Face, user access tokens",
        "2026-11-26",
        random=True,
    ),
    Kind("groq_key", ("gsk_",), r"gsk_[A-Za-z0-9]{40,120}", "Groq console", "2026-11-26"),
    Kind("xai_key", ("xai-",), r"xai-[A-Za-z0-9]{40,200}", "xAI console", "2026-11-26"),
    Kind(
        "perplexity_key",
        ("pplx-",),
        r"pplx-[A-Za-z0-9]{32,120}",
        "Perplexity, API settings",
        "2026-11-26",
        random=True,
    ),
    Kind(
        "replicate_token",
        ("r8_",),
        r"r8_[A-Za-z0-9]{30,80}",
        "Replicate, API tokens",
        "2026-11-26",
        random=True,
    ),
    Kind(
        "nvidia_key", ("nvapi-",), r"nvapi-[A-Za-z0-9_-]{32,200}", "NVIDIA NIM", "2026-11-26"
    ),
    Kind(
        "package_token",
        ("npm_", "pypi-AgE", "dckr_pat_"),
        r"(?:npm_[A-Za-z0-9]{36}|pypi-AgE[A-Za-z0-9_-]{40,300}|dckr_pat_[A-Za-z0-9_-]{20,60})",
        "npm, PyPI, Docker Hub",
        "2026-11-26",
    ),
    Kind(
        "sendgrid_key",
        ("SG.",),
        r"SG\.[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{16,64}",
        "SendGrid",
        "2026-11-26",
    ),
    Kind(
        "cloud_token",
        ("dop_v1_", "dapi", "hvs.", "lsv2_"),
        r"(?:do[opr]_v1_[a-f0-9]{64}|dapi[a-f0-9]{32}(?:-\d)?|hvs\.[A-Za-z0-9_-]{24,200}"
        r"|lsv2_(?:pt|sk)_[a-f0-9]{32}_[a-f0-9]{10})",
        "DigitalOcean, Databricks, HashiCorp Vault, LangSmith",
        "2026-11-26",
    ),
    Kind(
        "aws_access_key_id",
        ("AKIA", "ASIA", "ABIA", "ACCA"),
        r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}(?![A-Za-z0-9])",
        "AWS IAM, unique identifiers",
        "2026-11-26",
    ),
    Kind(
        "aws_secret",
        ("secret", "session"),
        rf"(?:(?i:secret_?-?access_?-?key|aws_?-?secret(?:_?-?key)?){_QUOTED}"
        r"(?P<secret>[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=]))"
        rf"|(?i:session_?-?token){_QUOTED}(?P<secret2>[A-Za-z0-9/+=]{{100,{_T}}}))",
        "AWS credentials files, environment and API answers",
        "2026-11-26",
        any_case=True,
    ),
    Kind(
        "azure_key",
        ("AccountKey=", "SharedAccessKey="),
        r"(?:AccountKey|SharedAccessKey)=(?P<secret>[A-Za-z0-9+/]{20,100}={0,2})",
        "Azure Storage and Service Bus connection strings",
        "2026-11-26",
    ),
    Kind(
        "azure_signature",
        ("sig=",),
        r"[?&;]sig=(?P<secret>[A-Za-z0-9%+/_-]{20,200}={0,2})",
        "Azure shared access signatures",
        "2026-11-26",
    ),
    Kind(
        "jwt",
        ("eyJ",),
        rf"eyJ[A-Za-z0-9_-]{{8,{_T}}}\.[A-Za-z0-9_-]{{8,{_T}}}\.[A-Za-z0-9_-]{{0,{_T}}}"
        rf"(?:\.[A-Za-z0-9_-]{{1,{_T}}}){{0,2}}",
        "RFC 7519",
        "2026-11-26",
    ),
    Kind(
        "bearer_token",
        ("bearer",),
        rf"(?i:bearer)[ \t]{{1,3}}(?P<secret>[A-Za-z0-9._~+/-]{{16,{_T}}}={{0,2}})",
        "RFC 6750",
        "2026-11-26",
        random=True,
        any_case=True,
    ),
    Kind(
        "authorization",
        ("authorization",),
        # Behind a scheme stands a secret; without one it may be a plain word of why it failed.
        rf"(?i:authorization){_QUOTED}(?:(?i:basic|token|digest|apikey|negotiate|key)\s{{1,3}}"
        rf"(?P<secret>{_VALUE}{{12,{_T}}}={{0,2}})|(?P<secret2>{_UUID})"
        rf"|(?P<by_chance>(?!(?i:bearer\b)){_VALUE}{{12,{_T}}}={{0,2}}))",
        "RFC 9110, section 11.6.2",
        "2026-11-26",
        any_case=True,
    ),
    Kind(
        "named_key",
        tuple(
            first + between + last
            for first, last in (("api", "key"), ("access", "token"), ("auth", "token"),
                                ("client", "secret"))
            for between in ("", "_", "-")
        ),
        r"(?i:api[_-]?key|(?:access|auth)[_-]?token|client[_-]?secret)"
        rf"{_QUOTED}(?P<secret>{_VALUE}{{16,{_T}}}={{0,2}})",
        "keys without a shape of their own: Mistral, Cohere, Together, Azure OpenAI, and others",
        "2026-11-26",
        random=True,
        any_case=True,
    ),
    Kind(
        "url_password",
        ("://",),
        r"[a-zA-Z][a-zA-Z0-9+.-]{1,20}://[^\s/:@'\"<>?#]{0,128}:(?P<secret>[^\s/@'\"<>]{1,256})@",
        "RFC 3986, section 3.2.1",
        "2026-11-26",
    ),
)  # fmt: skip
"""In the order in which they are looked for: a special shape before a general one."""


@cache
def compiled() -> "tuple[tuple[Kind, tuple[bytes, ...], re.Pattern[bytes]], ...]":
    """Every kind with its anchors and its pattern, for bytes."""
    return tuple(
        (kind, tuple(map(str.encode, kind.anchors)), re.compile(kind.pattern.encode()))
        for kind in KINDS
    )


@cache
def any_anchor() -> "re.Pattern[bytes]":
    """Any piece of text, in small letters, without which no secret but a private key can stand."""
    anchors = sorted({anchor.lower() for kind in KINDS[1:] for anchor in kind.anchors})
    return re.compile("|".join(map(re.escape, anchors)).encode())
