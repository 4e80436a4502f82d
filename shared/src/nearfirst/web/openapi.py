"""What the OpenAPI document says of keys."""

from typing import Any

from fastapi import FastAPI

from nearfirst.web.access import AccessRules

_SCHEME = "ApiKey"


def declare_security(app: FastAPI, rules: AccessRules) -> None:
    """Have the application's document say which role each operation needs (OpenAPI 3.1: a scheme other than OAuth lists
    role names in place of scopes), and nothing of those that need no key."""
    describe = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = describe()
            schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
            schemes[_SCHEME] = {
                "type": "http",
                "scheme": "bearer",
                "description": "An API key of this role or a higher one, once there is one; see docs/security.md.",
            }
            for path, operations in document["paths"].items():
                for method, operation in operations.items():
                    if (needed := rules.needed_role(method.upper(), path)) is not None:
                        operation["security"] = [{_SCHEME: [needed]}]
        return app.openapi_schema or describe()

    app.openapi = described  # type: ignore[method-assign]  # FastAPI's own way to extend the document
