"""Settings: everything from the environment, with defaults that work on a laptop.

A wrong value stops the start with a sentence that says what to do. `docs/settings.md` lists the
names. Which database role a process connects with is `MAILWRIGHT_PROCESS`: `web` is held by
row-level security, `worker` crosses tenants, `owner` migrates.
"""

from __future__ import annotations

import sys
from pathlib import Path

from csp.constants import NONCE

from esp.settings.environment import read_environment

ROOT = Path(__file__).resolve().parent.parent.parent
ENV = read_environment()

DEBUG = ENV.debug
DEMO = ENV.demo
SECRET_KEY = ENV.secret_key
SECRET_KEY_FALLBACKS = ENV.secret_key_fallbacks
SITE_URL = ENV.site_url
ALLOWED_HOSTS = ENV.allowed_hosts
CSRF_TRUSTED_ORIGINS = [SITE_URL]
SECURE_COOKIES = SITE_URL.startswith("https://")
# How many proxies of ours stand in front (their entries in X-Forwarded-For are believed).
PROXY_HOPS = ENV.proxy_hops

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.humanize",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "django_htmx",
    "django_cotton.apps.SimpleAppConfig",
    "template_partials.apps.SimpleAppConfig",
    "lucide",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "esp.kit",
    "tenants",
    "deliverability",
    "sending",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "esp.kit.limits.RequestLimitMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "tenants.apikeys.middleware.ActorMiddleware",
    "tenants.quotas.middleware.RateHeadersMiddleware",
    "esp.kit.pages.DomainErrorMiddleware",
]

ROOT_URLCONF = "esp.urls"
WSGI_APPLICATION = "esp.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [ROOT / "templates"],
        "OPTIONS": {
            # Cotton and template-partials must be named here: with both packages' own set-up
            # the tags come out raw (a test keeps it).
            "loaders": [
                (
                    "template_partials.loader.Loader",
                    [
                        (
                            "django.template.loaders.cached.Loader",
                            [
                                "django_cotton.cotton_loader.Loader",
                                "django.template.loaders.filesystem.Loader",
                                "django.template.loaders.app_directories.Loader",
                            ],
                        )
                    ],
                )
            ],
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "csp.context_processors.nonce",
                "tenants.directory.context.workspace",
            ],
            "builtins": [
                "django_cotton.templatetags.cotton",
                "template_partials.templatetags.partials",
                "esp.kit.templatetags.kit",
                "lucide.templatetags.lucide",
            ],
        },
    }
]

DATABASES = {"default": ENV.database_for(ENV.process)}
DATABASE_ROLES = {"web": "mailwright_app", "worker": "mailwright_worker"}
# The tests connect as the owner; their requests then put on the role of the web process, so that
# row-level security is in force in every test of a door.
TENANCY_REQUEST_ROLE = ENV.request_role
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = ENV.redis_url
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "mw",
    }
}
SESSION_ENGINE = "django.contrib.sessions.backends.db"
SESSION_COOKIE_SECURE = SECURE_COOKIES
SESSION_COOKIE_AGE = 14 * 24 * 3600
CSRF_COOKIE_SECURE = SECURE_COOKIES
SECURE_SSL_REDIRECT = False  # the TLS proxy redirects; health checks come over plain HTTP
SECURE_HSTS_SECONDS = 31_536_000 if SECURE_COOKIES else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_COOKIES
SECURE_HSTS_PRELOAD = SECURE_COOKIES
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if SECURE_COOKIES else None
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CONTENT_TYPE_NOSNIFF = True
X_FRAME_OPTIONS = "SAMEORIGIN"  # previews of mail are frames of our own
SILENCED_SYSTEM_CHECKS = ["security.W008", "security.W019"]

AUTH_USER_MODEL = "tenants.User"
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
LOGIN_URL = "accounts-sign-in"
LOGIN_REDIRECT_URL = "dashboard"
LOGOUT_REDIRECT_URL = "accounts-sign-in"
PASSWORD_RESET_TIMEOUT = 3600
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
if ENV.testing:  # the tests sign in thousands of times
    PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 10},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False

STATIC_URL = "/static/"
STATIC_ROOT = ROOT / "staticfiles"
STATICFILES_DIRS = [ROOT / "static"]
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = DEBUG or DEMO or ENV.testing
DATA_DIR = Path(ENV.data_dir or ROOT / "var" / "data")
MEDIA_ROOT = DATA_DIR / "media"

DATA_UPLOAD_MAX_MEMORY_SIZE = 5 * 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 2000
FILE_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024
IMPORT_MAX_BYTES = 1024 * 1024 * 1024
API_MAX_BYTES = 25 * 1024 * 1024
# Requests of one tenant: (a second, in one burst), by the view's `rate_kind`.
API_RATES = {"api": (ENV.api_rate, 2 * ENV.api_rate), "send": (ENV.send_rate, 2 * ENV.send_rate)}

EMAIL_BACKEND = "sending.messages.mail_backend.SystemMailBackend"
SYSTEM_TENANT_SLUG = "system"
DEFAULT_FROM_EMAIL = ENV.system_from

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["tenants.apikeys.authentication.ActorAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["esp.kit.rest.HasScopes"],
    "DEFAULT_THROTTLE_CLASSES": ["tenants.quotas.throttle.TenantThrottle"],
    "DEFAULT_PARSER_CLASSES": ["esp.kit.rest.ORJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["esp.kit.rest.ORJSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "esp.kit.drf.problem_handler",
    "UNAUTHENTICATED_USER": None,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
    # One transaction a request is opened by ActorMiddleware.
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Mailwright API",
    "DESCRIPTION": "Send messages, follow them, and manage contacts, lists and suppressions.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "MessageStatus": "sending.messages.models.Message.Status",
        "AcceptedStatus": ["queued", "dropped"],
        "DomainStatus": "deliverability.domains.models.Domain.Status",
        "SubscriptionStatus": "sending.audience.models.Subscription.Status",
        "EventKind": "sending.events.models.EventKind",
        "Stream": "sending.messages.models.Stream",
    },
}

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "script-src": ["'self'", NONCE],
        "style-src": ["'self'", "'unsafe-inline'"],
        "img-src": ["'self'", "data:"],
        "frame-src": ["'self'"],
        "frame-ancestors": ["'self'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "object-src": ["'none'"],
    }
}

# Delivery
SMTP_PORT = ENV.smtp_port
DNS_RESOLVERS = ENV.dns_resolvers
DNS_VALIDATES = ENV.dns_validates
METRICS_TOKEN = ENV.metrics_token
ALLOW_PRIVATE_MX = ENV.allow_private_mx
RETRY_PROFILE = ENV.retry_profile
SHAPING_FILE = ENV.shaping_file
INBOUND_LISTEN = ENV.inbound_listen
PRODUCT_DOMAIN = ENV.product_domain
RETURN_PATH_TARGET = f"bounces.{PRODUCT_DOMAIN}"
TRACKING_TARGET = f"track.{PRODUCT_DOMAIN}"
FEEDBACK_DOMAIN = f"bounces.{PRODUCT_DOMAIN}"
SIMULATOR_URL = ENV.simulator_url
DELIVERY_CONCURRENCY = ENV.delivery_concurrency
DKIM_SIGN_TOGETHER = ENV.dkim_sign_together
DELIVERY_SLICE_SECONDS = ENV.delivery_slice_seconds
# Longer than a slice with its grace: a lease that ends under its worker's hands doubles messages.
DELIVERY_LEASE_SECONDS = ENV.delivery_lease_seconds
DELIVERY_PUMPS = ENV.delivery_pumps  # delivery tasks a stream that go round at once
DELIVERY_NODE = ENV.delivery_node
DELIVERY_NODE_DEAD_SECONDS = ENV.delivery_node_dead_seconds
CAMPAIGN_PREPARERS = ENV.campaign_preparers  # workers that make one campaign's messages at once
QUEUE_LIMIT = ENV.queue_limit
QUEUE_LIMIT_PER_TENANT = ENV.queue_limit_per_tenant
MESSAGE_RETENTION_DAYS = ENV.message_retention_days  # 0 keeps for ever

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": ENV.log_level},
    "loggers": {"django.server": {"level": "WARNING"}},
}
if ENV.testing:
    LOGGING["root"] = {"handlers": ["stderr"], "level": "CRITICAL"}

RUNNING_TESTS = ENV.testing or "pytest" in sys.modules
