"""Requests to every route at random: integers of any size, text of any kind, bodies half right."""

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from asgi_helpers import KINDS, Call
from fastapi.routing import APIRoute
from web_helpers import PAIR, SAMPLES, TASKS

from backflip.config import ServerSettings
from backflip.records import Completion, Sample
from backflip.records.feedback import Comparison
from backflip.web import create_app
from backflip.workspace import ModelRecord, ProjectSettings, User, Workspace

NUMBERS = [0, 1, 2, 7, -1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**30]
HUGE = "9" * 5000
"""More digits than Python reads."""
IN_JSON = "a number of so many digits"
TEXTS = [
    *("", " ", ".", "..", "\x00", "a\x00b", "\ud800", "\udfff\ud800", "\ufffe", "\x85\u2028"),
    *("語" * 150, "🙂" * 150, "x" * 10_000, "%", "%00", "../../etc", "' OR 1=1 --", "{{7*7}}"),
    *("nan", "inf", "-0", "1e999", "0x10", "1_000", "١٢٣", "true", "null", "<b>", '"', "\\"),
    *("\r\nset-cookie: a", "\u202eabc", "a" * 150 + "é", "http://[::1", "https://例え.jp/"),
]
JSON = [None, True, False, 1.5, -0.0, 1e308, [], {}, [[]], {"": None}, [[[[[[[[]]]]]]]]]
COMMON = range(0x20, 0x7F)


class World:
    """A server with one of everything, and an administrator who may ask for all of it."""

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        workspace.samples.add(SAMPLES)
        for name, stage in (("policy", "policy"), ("judge", "reward")):
            record = {"id": f"m-{name}", "name": name, "stage": stage, "path": name}
            workspace.models.register(ModelRecord(**record, run="run-1"))
        self.app = create_app(workspace, ServerSettings(webhooks_inside=True))
        signer = self.app.state.context.signer
        self.headers = {
            "cookie": f"backflip-guest={signer.sign('guest')}",
            "x-csrf-token": "guest",
        }
        self.known: dict[str, list[str]] = {}
        self.count = 0

    async def renew(self) -> None:
        """Put right what the last requests took away: who asks, and what there is to ask for."""
        workspace, user = self.workspace, self.sign_in()
        rules = ProjectSettings(chat_model="m-policy")
        project = workspace.projects.create(f"Project {self.count}", rules).id
        run = f"run-{self.count}"
        workspace.queue.put(run, 1, TASKS.values(), overlap=2, project=project)
        guideline = workspace.projects.add_guideline(project, "Be kind.", user.annotator)
        task = workspace.queue.next(user.annotator, project=project)
        assert task is not None
        vote = Comparison(annotator=user.annotator, samples=PAIR.sample_ids, choice="a")
        (entry,) = workspace.journal.add([vote], run=run, round=1)
        webhook = workspace.webhooks.add(project, "http://127.0.0.1:1/", ["answer"])
        chat, replies = await self._chat(project)
        self.known = {
            "project": [project],
            "task": [task.id],
            "user": [user.id],
            "annotator": [user.annotator],
            "entry": [entry],
            "key": [workspace.people.invite(project, "lead", uses=1000)],
            "number": [str(batch.number) for batch in workspace.batches.all(project)],
            "version": [str(guideline.version)],
            "model": ["m-policy", "m-judge"],
            "webhook": [webhook.id],
            "chat": [chat],
            "generation": replies,
            "a": replies,
            "b": replies,
            "sample": [sample.id for sample in SAMPLES[:4]],
        }

    def sign_in(self) -> User:
        """Ask as a new administrator: the last one may have been forgotten, or lost its key."""
        self.count += 1
        people = self.workspace.people
        user = people.add(f"boss {self.count}", admin=True)
        self.headers["authorization"] = f"Bearer {people.add_token(user.id, 'fuzz')}"
        return user

    async def _chat(self, project: str) -> tuple[str, list[str]]:
        """A chat whose first turn a worker has answered, and the replies."""
        path = f"/api/projects/{project}/chats"
        chat = await self._post(path, {})
        await self._post(f"{path}/{chat['id']}/say", {"text": "Hello?", "turns": 0})
        replies: list[str] = []
        for each in self.workspace.generations.take("worker", 100):
            reply = Completion(text=f"Reply {each.index}", finish="stop")
            sample = Sample.of(each.prompt, reply, seed=each.seed, index=each.index)
            self.workspace.generations.finish("worker", {each.id: sample})
            replies.append(each.id)
        return chat["id"], replies[-2:]

    async def _post(self, path: str, body: Any) -> Any:
        headers = self.headers | {"content-type": KINDS["json"]}
        call = Call(self.app, "POST", path, headers, [json.dumps(body).encode()])
        await call.send()
        assert call.status < 300, call.body
        return json.loads(call.body)


class Fuzzer:
    """Draws requests, the same ones from the same seed.

    Args:
        world: that is asked.
        routes: by name, like "GET /projects/{project}".
        seed: of what is drawn.
    """

    def __init__(self, world: World, routes: Mapping[str, APIRoute], seed: int):
        self.world = world
        self.routes = routes
        self.draw = random.Random(seed)

    def shuffled(self) -> list[str]:
        """Every route, in an order that is drawn."""
        names = sorted(self.routes)
        return self.draw.sample(names, len(names))

    def request(self, name: str) -> Call:
        """A request to a route."""
        method, _, path = name.partition(" ")
        route = self.routes[name]
        for part in route.dependant.path_params:
            path = path.replace(f"{{{part.name}}}", self.segment(part.name))
        query = [
            (each.alias, self.text(each.alias))
            for each in route.dependant.query_params
            if self.chance(0.7)
        ]
        call = Call(self.world.app, method, path, dict(self.world.headers))
        call.query = encoded(query)
        if method != "GET" and route.body_field is not None:
            kind, content = self.body(route)
            call.headers["content-type"] = KINDS[kind]
            call.pieces = [content]
        return call

    def chance(self, share: float) -> bool:
        return self.draw.random() < share

    def segment(self, name: str) -> str:
        """What stands in a path: no slash and no lone surrogate can come there."""
        text = str(self.number()) if self.chance(0.2) else self.text(name, known=0.6)
        return text.replace("/", "").encode("utf-8", "replace").decode() or "0"

    def number(self) -> int:
        if self.chance(0.5):
            return self.draw.choice(NUMBERS)
        return self.draw.randrange(-(10**20), 10**20) >> self.draw.randrange(70)

    def text(self, name: str = "", known: float = 0.3) -> str:
        """Text of any kind; the id of something of this name, or of any, rather often."""
        if self.chance(known):
            fitting = self.world.known.get(name.rstrip("s"), [])
            every = [each for ids in self.world.known.values() for each in ids]
            return self.draw.choice(fitting or every)
        if self.chance(0.1):
            return str(self.number()) if self.chance(0.9) else HUGE
        if self.chance(0.5):
            return self.draw.choice(TEXTS)
        signs = (self.draw.choice(COMMON), self.draw.randrange(128), self.draw.randrange(0x110000))
        return "".join(chr(self.draw.choice(signs)) for _ in range(self.draw.randrange(12)))

    def body(self, route: APIRoute) -> tuple[str, bytes]:
        """The kind of a body, and the body."""
        field: Any = route.body_field
        if type(field.field_info).__name__ == "Form":
            names = [each.alias for each in route.dependant.body_params]
            return "form", encoded([(n, self.text(n)) for n in names if self.chance(0.9)]).encode()
        schema = field.field_info.annotation.model_json_schema()
        text = json.dumps(self.value(schema, schema.get("$defs", {})))
        return "json", text.replace(f'"{IN_JSON}"', HUGE).encode()

    def value(self, schema: Any, defs: Any, name: str = "") -> Any:
        """A value of a schema, more or less."""
        if "$ref" in schema:
            return self.value(defs[schema["$ref"].rsplit("/", 1)[1]], defs, name)
        if self.chance(0.04):
            return self.draw.choice([self.number(), self.text(), IN_JSON, *JSON])
        for key in ("oneOf", "anyOf"):
            if key in schema:
                return self.value(self.draw.choice(schema[key]), defs, name)
        if "enum" in schema or "const" in schema:
            return self.draw.choice(schema.get("enum", [schema.get("const")]))
        match schema.get("type"):
            case "object":
                return self.object(schema, defs)
            case "array":
                number = self.draw.randrange(schema.get("minItems", 0), 4)
                return [self.value(schema.get("items", {}), defs, name) for _ in range(number)]
            case "integer" | "number":
                low = schema.get("minimum", 0)
                near = (low, low + 1, schema.get("maximum", 100))
                return self.draw.choice(near) if self.chance(0.8) else self.number()
            case "boolean":
                return self.chance(0.5)
            case "null":
                return None
        return self.text(name)

    def object(self, schema: Any, defs: Any) -> dict[str, Any]:
        made = {
            name: self.value(each, defs, name)
            for name, each in schema.get("properties", {}).items()
            if name in schema.get("required", ()) or self.chance(0.5)
        }
        if schema.get("additionalProperties", True) is not False and self.chance(0.5):
            made[self.text()] = self.draw.choice([self.number(), self.text(), *JSON])
        return made


def encoded(pairs: Sequence[tuple[str, str]]) -> str:
    """As a form; a lone surrogate as the bytes that it would have."""
    return urlencode([(k, v.encode("utf-8", "surrogatepass")) for k, v in pairs])
