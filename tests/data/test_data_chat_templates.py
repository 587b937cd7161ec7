"""Which template is used, what it is given, and what is told of templates that cannot be used."""

from inspect import Parameter, signature

import pytest
from chat_cases import CHATML, GEMMA, LLAMA2, THINKING, make_case
from transformers import PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import render_jinja_template

from backflip.config import ChatSettings
from backflip.data import Chat, template_problems
from backflip.errors import ModelError, SettingsError
from backflip.records import Completion, Dialogue, Message, Prompt, Sample, ToolCall

TOOLS = (
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Tells the weather.",
            "parameters": {"type": "object", "properties": {"place": {"type": "string"}}},
        },
    },
)
USES_TOOLS = (
    "{% if tools %}<|im_start|>tools\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for c in m.tool_calls or [] %}"
    "[{{ c.type }} {{ c.id }} {{ c.function.name }}({{ c.function.arguments | tojson }})]"
    "{% endfor %}"
    "{% if m.role == 'tool' %} from {{ m.tool_name }} {{ m.name }} {{ m.tool_call_id }}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
USED_TOOLS = Dialogue(
    messages=(
        Message(role="user", content="Rain in Rome?"),
        Message(
            role="assistant",
            content="",
            tool_calls=(ToolCall(name="weather", arguments={"place": "Rome </s>"}, id="call7"),),
        ),
        Message(role="tool", content="It rains.", tool_name="weather", tool_call_id="call7"),
    ),
    tools=TOOLS,
)
WITH_SYSTEM = Dialogue(
    messages=(Message(role="system", content="Be brief."), Message(role="user", content="Why?"))
)


@pytest.fixture
def tokenizer():
    """ChatML's control tokens; every test gives it a template of its own."""
    made = make_case("gpt2", "chatml")
    own = made.chat_template
    yield made
    made.chat_template = own


def shown(tokenizer, dialogue, **settings):
    """A prompt as its tokens read."""
    chat = Chat(tokenizer, ChatSettings(**settings))
    return tokenizer.decode(chat.encode_prompt(dialogue).tolist())


def test_one_of_several_templates_is_chosen_by_name(tokenizer):
    named = {"brief": "B {{ messages[0].content }}", "long": "L {{ messages[0].content }}"}
    tokenizer.chat_template = named
    prompt = Prompt.from_text("the sun")
    assert shown(tokenizer, prompt, template="brief") == "B the sun"
    assert shown(tokenizer, prompt, template="long") == "L the sun"
    for settings, told in ((None, "several chat templates"), ("short", "no chat template 'short'")):
        with pytest.raises(ModelError, match=told) as caught:
            Chat(tokenizer, ChatSettings(template=settings))
        assert "brief" in str(caught.value)
        assert "long" in str(caught.value)
        (problem,) = template_problems(tokenizer, ChatSettings(template=settings))
        assert told in problem


def test_without_a_choice_it_is_the_default_and_with_tools_the_one_for_tools(tokenizer):
    tokenizer.chat_template = {"default": CHATML, "tool_use": "T" + USES_TOOLS}
    plain = Prompt.from_text("the sun").content
    assert shown(tokenizer, plain) == "<|im_start|>user\nthe sun<|im_end|>\n<|im_start|>assistant\n"
    assert shown(tokenizer, plain.model_copy(update={"tools": TOOLS})).startswith("T<|im_start|>")


def test_a_file_of_a_template_is_used(tokenizer, tmp_path):
    file = tmp_path / "own.jinja"
    file.write_text("<|im_start|>{{ messages[0].content }} now<|im_end|>", encoding="utf-8")
    assert shown(tokenizer, Prompt.from_text("it"), template=str(file)).startswith(
        "<|im_start|>it now<|im_end|>"
    )


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{{ messages[0].content }}\xff", "is not UTF-8: byte 25"),
        (b"\x00" * (2**20 + 1), "is larger than 1048576 bytes"),
        (None, "cannot be read: Is a directory"),
    ],
)
def test_a_file_that_is_no_template_is_told_by_its_name(tokenizer, tmp_path, content, told):
    file = tmp_path / "own.jinja"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    with pytest.raises(ModelError, match=told) as caught:
        Chat(tokenizer, ChatSettings(template=str(file)))
    assert caught.value.where == str(file)
    assert caught.value.hint


def test_a_file_that_may_not_be_read_is_told(tokenizer, tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)  # whoever runs the tests may read all files
    with pytest.raises(ModelError, match="cannot be read: Permission denied"):
        Chat(tokenizer, ChatSettings(template="own.jinja"))


@pytest.mark.parametrize("path", ["gone.jinja", "own.jinja/x", "~nobody-of-this-name/x"])
def test_a_path_at_which_nothing_lies_is_told(tokenizer, tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.jinja").touch()
    with pytest.raises(ModelError, match="no file is called that"):
        Chat(tokenizer, ChatSettings(template=path))


def passed_anyway():
    """What transformers and a template's own code take beside a template's variables."""
    for function in (PreTrainedTokenizerFast.apply_chat_template, render_jinja_template):
        for name, parameter in signature(function).parameters.items():
            if name != "self" and parameter.kind is not Parameter.VAR_KEYWORD:
                yield name
    yield from ("messages", "backflip_dates")


@pytest.mark.parametrize("name", sorted(set(passed_anyway())))
def test_what_any_template_is_given_is_no_variable(name):
    with pytest.raises(SettingsError, match=f"kwargs: {name}: no variable"):
        ChatSettings.parse({"kwargs": {"enable_thinking": False, name: True}})


def test_variables_reach_the_template(tokenizer):
    tokenizer.chat_template = THINKING
    prompt = Prompt.from_text("the sun")
    thought = "<think>\n\n</think>\n\n"
    assert not shown(tokenizer, prompt).endswith(thought)
    assert shown(tokenizer, prompt, kwargs={"enable_thinking": False}).endswith(thought)
    replies = [
        tokenizer.decode(Chat(tokenizer, ChatSettings(kwargs=given)).encode_reply("It rains."))
        for given in ({}, {"enable_thinking": False})
    ]
    # The whole dialogue is the same: what the prompt does not hold, the reply does.
    assert replies == [f"{thought}It rains.<|im_end|>", "It rains.<|im_end|>"]


def test_a_template_reads_the_date_that_it_is_given(tokenizer):
    tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }} {{ messages[0].content }}"
    assert shown(tokenizer, Prompt.from_text("it")) == "26 Jul 2024 it"
    assert shown(tokenizer, Prompt.from_text("it"), today="2031-02-03") == "03 Feb 2031 it"
    with pytest.raises(SettingsError, match="no date like"):
        ChatSettings.parse({"today": "tomorrow"})


def test_tools_calls_and_results_reach_the_template(tokenizer):
    tokenizer.chat_template = USES_TOOLS
    text = shown(tokenizer, USED_TOOLS)
    assert '"name": "weather", "description": "Tells the weather."' in text
    assert '[function call7 weather({"place": "Rome </s>"})]' in text
    assert "It rains. from weather weather call7" in text
    assert tokenizer.eos_token_id not in Chat(tokenizer).encode_prompt(USED_TOOLS)
    assert template_problems(tokenizer, dialogues=[USED_TOOLS]) == []


LONG = Dialogue(
    messages=(
        Message(role="system", content="Be brief. </s>"),
        Message(role="user", content="Why?"),
        Message(role="assistant", content="<|im_end|> so"),
        Message(role="user", content="And?"),
    )
)


@pytest.mark.parametrize("dialogue", [USED_TOOLS, LONG, WITH_SYSTEM])
def test_a_reply_follows_on_its_own_dialogue(tokenizer, dialogue):
    """What a template writes around a reply may depend on all that was before it."""
    tokenizer.chat_template = USES_TOOLS.replace(
        "{{ m.content }}",
        "{% if m.role == 'assistant' and loop.last %}({{ loop.index }}"
        "{{ ' with tools' if tools }}) {% endif %}{{ m.content }}",
    )
    chat = Chat(tokenizer)
    assert template_problems(tokenizer, dialogues=[dialogue]) == []
    prompt, reply = chat.encode_sample(Sample.of(Prompt(content=dialogue), Completion("It rains.")))
    number = len(dialogue.messages) + 1
    start = f"({number}{' with tools' if dialogue.tools else ''}) It rains.<|im_end|>"
    assert tokenizer.decode(reply.tolist()) == start
    assert tokenizer.decode(prompt.tolist()).endswith("<|im_end|>\n<|im_start|>assistant\n")
    for tokens in (chat.encode_reply("It rains.", prompt=dialogue), reply):
        assert tokens.tolist() == reply.tolist()


def test_a_template_for_tools_that_ends_turns_otherwise_is_a_problem(tokenizer):
    other = USES_TOOLS.replace("<|im_end|>", "</s>")
    tokenizer.chat_template = {"default": CHATML, "tool_use": other}
    plain = Dialogue(messages=(Message(role="user", content="Why?"),))
    assert template_problems(tokenizer, dialogues=[plain]) == []
    (problem,) = template_problems(tokenizer, dialogues=[plain, USED_TOOLS])
    assert "makes something else of the reply" in problem


@pytest.mark.parametrize(
    ("template", "dialogue", "told"),
    [
        (CHATML, USED_TOOLS, "leaves out the calls of tools and the tools"),
        (CHATML, Dialogue(messages=USED_TOOLS.messages), "leaves out the calls of tools"),
        (None, USED_TOOLS, "plain turns have no place for tools"),
        (LLAMA2, WITH_SYSTEM, "leaves out the system turn"),
        (GEMMA, WITH_SYSTEM, "System role not supported"),
    ],
)
def test_what_a_template_leaves_out_is_told_before_and_refused(tokenizer, template, dialogue, told):
    tokenizer.chat_template = template
    (problem,) = template_problems(tokenizer, dialogues=[dialogue, dialogue])
    assert told in problem
    with pytest.raises(ModelError, match=told) as caught:
        Chat(tokenizer).encode_prompt(dialogue)
    assert ", ".join(m.role for m in dialogue.messages) in str(caught.value) or template is None
    if dialogue is WITH_SYSTEM:
        assert 'model.chat.system = "first_user"' in str(caught.value)


@pytest.mark.parametrize("template", [LLAMA2, CHATML])
def test_a_system_turn_may_be_folded_into_the_first_user_turn(tokenizer, template):
    tokenizer.chat_template = template
    folded = Dialogue(messages=(Message(role="user", content="Be brief.\n\nWhy?"),))
    assert shown(tokenizer, WITH_SYSTEM, system="first_user") == shown(tokenizer, folded)
    assert shown(tokenizer, folded, system="first_user") == shown(tokenizer, folded)
    settings = ChatSettings(system="first_user")
    assert template_problems(tokenizer, settings, [WITH_SYSTEM]) == []


@pytest.mark.parametrize(
    ("template", "told"),
    [
        # Its prompts open a thought that its dialogues do not have.
        (
            CHATML.replace("assistant\n{% endif", "assistant\n<think>\n{% endif"),
            "does not begin as the prompt does",
        ),
        (CHATML.replace("m.content", "m.content | upper"), "does not write a reply as it is"),
        (
            CHATML.replace("{{ m.content }}", "{{ m.content | length }} {{ m.content }}"),
            "depends on the reply",
        ),
        (
            CHATML.replace("assistant\n{% endif", "assistant\n{{ ' ' }}{% endif"),
            "does not begin as",
        ),
        ("{{ raise_exception('closed') }}", "closed"),
        ("{{ messages | nothing }}", "nothing"),
    ],
)
def test_a_template_whose_replies_cannot_be_told_is_a_problem(tokenizer, template, told):
    tokenizer.chat_template = template
    (problem,) = template_problems(tokenizer)
    assert told in problem
    with pytest.raises(ModelError, match=told):
        Chat(tokenizer).encode_reply("It rains.")


def test_thoughts_that_a_template_takes_out_of_past_turns_stay_in_the_reply(tokenizer):
    tokenizer.chat_template = CHATML.replace("m.content", "m.content.split('</think>')[-1]")
    reply = "<think>\nhm\n</think>\n\nIt rains."
    written = tokenizer.decode(Chat(tokenizer).encode_reply(reply))
    assert written == f"{reply}<|im_end|>"


def test_markers_of_turns_are_no_words_of_users_even_where_they_are_not_flagged():
    tokenizer = make_case("gpt2", "none")
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>"])
    core, only = tokenizer.backend_tokenizer, {"eos_token": "</s>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **only)
    tokenizer.chat_template = CHATML
    tokens = Chat(tokenizer).encode_prompt(Prompt.from_text("<|im_end|><think>")).tolist()
    assert tokens.count(tokenizer.convert_tokens_to_ids("<|im_end|>")) == 1
    assert tokenizer.convert_tokens_to_ids("<think>") in tokens  # a word that models write
    make_case.cache_clear()


def test_marks_of_thoughts_are_words_where_every_turn_has_them(tokenizer):
    tokenizer.chat_template = CHATML.replace(
        "{{ m.content }}",
        "{% if m.role == 'assistant' and '</think>' not in m.content %}<think></think>\n{% endif %}"
        "{{ m.content }}",
    )
    reply = Chat(tokenizer).encode_reply("<think>hm</think>so").tolist()
    assert reply[0] == tokenizer.convert_tokens_to_ids("<think>")
    assert tokenizer.convert_tokens_to_ids("</think>") in reply


def test_a_gpt2_like_tokenizer_has_one_special_token_and_no_template():
    core = make_case("gpt2", "none", writes_bos=False).backend_tokenizer
    only = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **only)
    chat = Chat(tokenizer)
    assert template_problems(tokenizer) == []
    prompt = chat.encode_prompt(Prompt.from_text("a </s>b"))
    assert tokenizer.decode(prompt.tolist()) == "User:\na </s>b\n\nAssistant:\n"
    end = tokenizer.eos_token_id
    assert end not in prompt
    assert chat.end_tokens == {end}
    reply = chat.encode_reply("</s>it").tolist()
    assert reply.count(end) == 1
    assert reply[-1] == end
    assert chat.decode_reply(reply) == "</s>it"
