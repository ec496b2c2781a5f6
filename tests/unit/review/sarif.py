"""Checks of a SARIF log."""

from __future__ import annotations

import json
from typing import Any

import jsonschema

# What profgen writes, from the tables of the OASIS standard "Static Analysis Results Interchange Format (SARIF)
# Version 2.1.0" (27 March 2020), sections 3.4 to 3.50: required members, types and allowed values; no other member than
# those profgen means to write.

TEXT = {"type": "string", "minLength": 1}
MESSAGE = {"type": "object", "properties": {"text": TEXT}, "required": ["text"], "additionalProperties": False}
LEVEL = {"enum": ["none", "note", "warning", "error"]}
SARIF: dict[str, Any] = {
    "type": "object",
    "required": ["$schema", "version", "runs"],
    "additionalProperties": False,
    "properties": {
        "$schema": {"type": "string", "format": "uri"},
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": {
                "type": "object",
                "required": ["tool", "automationDetails", "results", "columnKind", "originalUriBaseIds"],
                "additionalProperties": False,
                "properties": {
                    "automationDetails": {
                        "type": "object",
                        "required": ["id"],
                        "additionalProperties": False,
                        "properties": {"id": TEXT},
                    },
                    "originalUriBaseIds": {
                        "type": "object",
                        "additionalProperties": {
                            "type": "object",
                            "required": ["description"],
                            "additionalProperties": False,
                            "properties": {"description": MESSAGE},
                        },
                    },
                    "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                    "tool": {
                        "type": "object",
                        "required": ["driver"],
                        "additionalProperties": False,
                        "properties": {
                            "driver": {
                                "type": "object",
                                "required": ["name", "rules"],
                                "additionalProperties": False,
                                "properties": {
                                    "name": TEXT,
                                    "semanticVersion": {"type": "string", "pattern": r"^\d+\.\d+\.\d+"},
                                    "rules": {
                                        "type": "array",
                                        "uniqueItems": True,
                                        "items": {
                                            "type": "object",
                                            "required": ["id"],
                                            "additionalProperties": False,
                                            "properties": {
                                                "id": {"type": "string", "pattern": "^[a-z0-9]+([/-][a-z0-9]+)*$"},
                                                "name": {"type": "string", "pattern": "^([A-Z][a-z0-9]*)+$"},
                                                "shortDescription": MESSAGE,
                                                "help": MESSAGE,
                                                "defaultConfiguration": {
                                                    "type": "object",
                                                    "properties": {"level": LEVEL},
                                                    "additionalProperties": False,
                                                },
                                                "properties": {
                                                    "type": "object",
                                                    "properties": {
                                                        "tags": {"type": "array", "items": TEXT, "uniqueItems": True},
                                                        "security-severity": {
                                                            "type": "string",
                                                            "pattern": r"^(10|\d)\.\d$",
                                                        },
                                                    },
                                                },
                                            },
                                        },
                                    },
                                },
                            }
                        },
                    },
                    "results": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["message", "ruleId", "ruleIndex", "level", "locations", "partialFingerprints"],
                            "additionalProperties": False,
                            "properties": {
                                "ruleId": TEXT,
                                "ruleIndex": {"type": "integer", "minimum": 0},
                                "level": LEVEL,
                                "message": MESSAGE,
                                "locations": {
                                    "type": "array",
                                    "minItems": 1,
                                    "items": {
                                        "type": "object",
                                        "required": ["physicalLocation"],
                                        "additionalProperties": False,
                                        "properties": {
                                            "physicalLocation": {
                                                "type": "object",
                                                "required": ["artifactLocation"],
                                                "additionalProperties": False,
                                                "properties": {
                                                    "artifactLocation": {
                                                        "type": "object",
                                                        "required": ["uri"],
                                                        "additionalProperties": False,
                                                        "properties": {
                                                            "uri": {
                                                                "type": "string",
                                                                "pattern": r"^[A-Za-z0-9._~:/%!$&'()*+,;=@-]*$",
                                                            },
                                                            "uriBaseId": TEXT,
                                                        },
                                                    },
                                                    "region": {
                                                        "type": "object",
                                                        "required": ["startLine"],
                                                        "additionalProperties": False,
                                                        "properties": {"startLine": {"type": "integer", "minimum": 1}},
                                                    },
                                                },
                                            }
                                        },
                                    },
                                },
                                "partialFingerprints": {"type": "object", "additionalProperties": TEXT},
                                "properties": {"type": "object"},
                            },
                        },
                    },
                },
            },
        },
    },
}


def check_sarif(text: str) -> dict[str, Any]:
    log: dict[str, Any] = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(SARIF)
    jsonschema.validate(log, SARIF)
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert len({row["id"] for row in rules}) == len(rules)
    for row in run["results"]:
        assert rules[row["ruleIndex"]]["id"] == row["ruleId"]
        for location in row["locations"]:
            artifact = location["physicalLocation"]["artifactLocation"]
            assert ("uriBaseId" in artifact) != artifact["uri"].startswith("file:///")
            assert artifact.get("uriBaseId", "%SRCROOT%") in run["originalUriBaseIds"]
    assert len({json.dumps(row["partialFingerprints"]) for row in run["results"]}) == len(run["results"])
    return log
