"""The JSON Schema of a study file, by which editors complete and check it; made from the rules that the reader has.

It knows what can be said of one key at a time. What a study means as a whole (conditions, formulas, what a factory
takes) `tunectl check` says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, get_args

from tunectl.language.configuration import FIELDS, FieldRule
from tunectl.language.hyperparameter_reader import HYPERPARAMETER_KEYS
from tunectl.language.key_meanings import OF_FIELDS, OF_HYPERPARAMETERS, OF_SECTIONS, OF_STUDY
from tunectl.language.sections import Sections
from tunectl.language.workload_section import COMMAND_KEYS, FUNCTION_KEYS
from tunectl.space.domains import Scale
from tunectl.space.hyperparameters import Role

SCHEMA_FILE = "tunectl.schema.json"
SCHEMA_LINE = f"# yaml-language-server: $schema={SCHEMA_FILE}\n"
"""The first line of a study file, by which editors find the schema beside it."""

DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]

_SCALAR: Schema = {"type": ["boolean", "number", "string"]}
_OWN_CODE: Schema = {"properties": {"workload": {"type": "object"}}, "required": ["workload"]}


def study_schema() -> Schema:
    """The schema, as a value that can be written as JSON."""
    found = _plain(Sections.model_json_schema())
    definitions, keys = found["$defs"], found["properties"]
    # Own code evaluates when it does.
    definitions["TrainingSection"]["required"].remove("eval_every")
    keys["workload"] = _workload()
    keys["hyperparameters"] = {"type": "object", "minProperties": 1, "additionalProperties": _entry(_SCALAR, "any")}
    definitions["SearchSection"]["properties"]["points"] = _points()
    definitions["ResourcesSection"]["properties"]["devices"] = _devices()
    definitions["entry_of_any"] = _mapping(_SCALAR)
    for name, meaning in OF_STUDY.items():
        _describe(keys, name, meaning)
    for section, meanings in OF_SECTIONS.items():
        own = definitions[keys[section]["$ref"].rpartition("/")[2]]["properties"]
        for name, meaning in meanings.items():
            _describe(own, name, meaning)
    fields = {}
    for name, rule in FIELDS.items():
        definitions[f"entry_of_{name}"] = _mapping(_value(rule))
        fields[name] = _entry(_value(rule), name) | {"description": OF_FIELDS[name]}
    workload_study = {
        "training": {"required": ["max_train_steps", "eval_every"]},
        "hyperparameters": {"properties": fields, "required": ["optimizer"]},
    }
    return {
        "$schema": DIALECT,
        "title": "A tunectl study",
        **found,
        "allOf": [{"if": _OWN_CODE, "else": {"properties": workload_study}}],
    }


def schema_text() -> str:
    """The schema as the text of a JSON file, which ends with a newline."""
    return json.dumps(study_schema(), indent=1, ensure_ascii=False) + "\n"


def _plain(schema: Any) -> Any:
    """The schema that Pydantic makes, without its titles."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: _plain(item) for name, item in value.items()} if key in ("properties", "$defs") else _plain(value)
        for key, value in schema.items()
        if key != "title"
    }


def _describe(keys: Schema, name: str, meaning: str) -> None:
    keys[name] = {**keys[name], "description": meaning}


def _value(rule: FieldRule) -> Schema:
    """One value of a field of the training configuration."""
    if rule.choices and rule.code:
        return {"anyOf": [{"enum": list(rule.choices)}, {"type": "string", "pattern": ":"}]}
    if rule.choices:
        return {"enum": list(rule.choices)}
    if rule.value_type is str:
        return {"type": "string"}
    found: Schema = {"type": "integer" if rule.value_type is int else "number"}
    if rule.low is not None:
        found["exclusiveMinimum" if rule.low_open else "minimum"] = rule.low
    if rule.high is not None:
        found["exclusiveMaximum" if rule.high_open else "maximum"] = rule.high
    return found


def _entry(value: Schema, name: str) -> Schema:
    """What is written after a hyperparameter's name: a value, an entry, or a list of alternatives."""
    one = {"$ref": f"#/$defs/entry_of_{name}"}
    return {"anyOf": [value, one, {"type": "array", "minItems": 1, "items": one}]}


def _mapping(value: Schema) -> Schema:
    condition: Schema = {"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR}]}
    number: Schema = {"type": "number"} if value is _SCALAR else {**value, "type": "number"}
    keys: Mapping[str, Schema] = {
        "role": {"enum": list(get_args(Role))},
        "value": value,
        "values": {"type": "array", "items": value, "minItems": 1},
        "range": {"type": "array", "items": number, "minItems": 2, "maxItems": 2},
        "scale": {"enum": list(get_args(Scale))},
        "type": {"enum": ["float", "int"]},
        "when": {"type": "object", "additionalProperties": condition},
        "sampled": {"type": "boolean"},
        "points": {"type": "integer", "minimum": 1, "maximum": 10_000},
        "off": value,
        "formula": {"type": ["string", "number"]},
    }
    return {
        "type": "object",
        "properties": {name: {**keys[name], "description": OF_HYPERPARAMETERS[name]} for name in HYPERPARAMETER_KEYS},
        "additionalProperties": False,
        "oneOf": [{"required": [name]} for name in ("value", "values", "range", "formula")],
    }


def _workload() -> Schema:
    shared: Mapping[str, Schema] = {
        "baseline_loss": {"type": "number"},
        "shared_files": {"type": "array", "items": {"type": "string"}},
    }
    argument: Schema = {"type": ["string", "number"]}
    arguments: Schema = {"type": "array", "items": argument}
    conditional: Schema = {
        "type": "object",
        "properties": {"when": {"type": "object"}, "arguments": arguments},
        "required": ["when", "arguments"],
    }
    command: Mapping[str, Schema] = {
        "command": {"type": "array", "minItems": 1, "items": {"anyOf": [argument, arguments, conditional]}},
        "folder": {"type": "string"},
        "environment": {"type": "object"},
        "metrics": {"type": "array", "items": {"type": "object"}},
        "checkpoints": {"type": ["string", "object"]},
        "infeasible": {"type": "object"},
        **shared,
    }
    function: Mapping[str, Schema] = {"function": {"type": "string"}, **shared}
    return {
        "anyOf": [
            {"type": "string", "pattern": ":"},
            _closed({name: command[name] for name in COMMAND_KEYS}, "command"),
            _closed({name: function[name] for name in FUNCTION_KEYS}, "function"),
        ]
    }


def _closed(keys: Schema, required: str) -> Schema:
    return {"type": "object", "properties": keys, "required": [required], "additionalProperties": False}


def _points() -> Schema:
    return {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]}


def _devices() -> Schema:
    return {
        "anyOf": [{"enum": ["auto", "cpu"]}, {"type": "array", "minItems": 1, "items": {"type": ["integer", "string"]}}]
    }
