"""The official OpenAI client against a node's `/v1`: what a program that was written for OpenAI's API relies on.

    python openai_client.py --base-url http://127.0.0.1:8091/v1 --model NAME [--embeddings] [--skip-node-rules]

The token is the first line of standard input. Prints a line per test and `N passed, N failed`; exit code 1 if one failed.
`--skip-node-rules` leaves out what a bare engine does not promise, to run the rest against llama.cpp itself.
"""

import argparse
import sys
import traceback

import openai

# One short answer of a small model on a busy machine; a hang must not outlast the test that called us.
TIMEOUT_S = 60
QUESTION = [{"role": "user", "content": "What is 2+2? Answer in one short sentence."}]
TOKENS_MAX = 24


def client(options, token):
    # Retries would hide a refusal that the test must see.
    return openai.OpenAI(base_url=options.base_url, api_key=token, max_retries=0, timeout=TIMEOUT_S)


def chat(api, options, **more):
    return api.chat.completions.create(
        model=options.model, messages=QUESTION, max_tokens=TOKENS_MAX, temperature=0, **more
    )


def an_answer_comes_whole_with_its_usage(api, options):
    answer = chat(api, options)
    choice = answer.choices[0]
    assert choice.message.role == "assistant"
    assert choice.message.content.strip(), "the answer is empty"
    assert choice.finish_reason in ("stop", "length"), choice.finish_reason
    usage_adds_up(answer.usage)


def a_stream_carries_the_same_answer_piece_by_piece(api, options):
    whole = chat(api, options).choices[0].message.content
    chunks = list(chat(api, options, stream=True))
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert sum(bool(piece) for piece in pieces) > 1, "the answer came in one piece"
    assert "".join(pieces) == whole, f"{''.join(pieces)!r} is not {whole!r}"
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")


def a_stream_tells_its_usage_only_when_asked(api, options):
    # HTTP-13
    assert all(chunk.usage is None for chunk in chat(api, options, stream=True)), "usage came unasked"
    chunks = list(chat(api, options, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == [], "the usage chunk has choices"
    assert all(chunk.usage is None for chunk in chunks[:-1]), "usage came before the end"
    usage_adds_up(chunks[-1].usage)


def a_stream_that_is_left_early_does_not_block_the_next_request(api, options):
    stream = chat(api, options, stream=True)
    next(iter(stream))
    stream.close()
    assert chat(api, options).choices[0].message.content


def a_text_completion_comes_whole_and_as_a_stream(api, options):
    request = {"model": options.model, "prompt": "Once upon a time", "max_tokens": 8, "temperature": 0}
    whole = api.completions.create(**request)
    assert whole.choices[0].text, "the completion is empty"
    usage_adds_up(whole.usage)
    pieces = [chunk.choices[0].text for chunk in api.completions.create(**request, stream=True) if chunk.choices]
    assert "".join(pieces) == whole.choices[0].text


def a_wrong_token_is_refused_as_the_client_expects(api, options):
    try:
        chat(client(options, "arw_0000_wrong"), options)
    except openai.AuthenticationError as error:
        assert error.status_code == 401
    else:
        raise AssertionError("a wrong token was let in")


def the_models_tell_their_context_length(api, options):
    models = {model.id: model for model in api.models.list()}
    assert options.model in models, f"{options.model} is not among {list(models)}"
    context = models[options.model].model_extra["context_length"]
    assert isinstance(context, int) and context > 0, context


def an_unknown_model_is_refused_with_the_known_ones(api, options):
    # HTTP-10
    try:
        api.chat.completions.create(model="no-such-model", messages=QUESTION, max_tokens=1)
    except openai.NotFoundError as error:
        assert error.code == "model_not_found", error.code
        assert options.model in error.body["known"], error.body
    else:
        raise AssertionError("an unknown model was served")


def a_streams_last_chunk_tells_how_fast_it_was(api, options):
    # HTTP-13: llama.cpp tells it in the usage chunk where it is asked for one, as a node always does.
    for more in ({}, {"stream_options": {"include_usage": False}}):
        chunks = list(chat(api, options, stream=True, **more))
        assert chunks[-1].choices[0].finish_reason in ("stop", "length")
        assert chunks[-1].model_extra["timings"]["predicted_per_second"] > 0, chunks[-1]


def a_context_that_is_exceeded_is_told_in_openais_word(api, options):
    # HTTP-12
    for more in ({}, {"stream": True}):
        try:
            question = [{"role": "user", "content": "word " * 6000}]
            api.chat.completions.create(model=options.model, messages=question, max_tokens=1, **more)
        except openai.BadRequestError as error:
            assert error.code == "context_length_exceeded", error.body
        else:
            raise AssertionError("more than the context was taken")


def an_ill_typed_field_is_refused_in_the_clients_words(api, options):
    # HTTP-5
    try:
        api.chat.completions.create(model=options.model, messages=QUESTION, extra_body={"model": 7})
    except openai.APIStatusError as error:
        assert error.status_code in (400, 422), error.status_code
        assert error.body["message"], error.body
    else:
        raise AssertionError("a number was taken for a model's name")


def an_embedding_is_a_list_of_numbers(api, options):
    # The client asks for base64 by itself when told nothing; both forms must come.
    for more in ({}, {"encoding_format": "float"}):
        answer = api.embeddings.create(model=options.model, input=["hello", "world"], **more)
        assert [entry.index for entry in answer.data] == [0, 1]
        assert all(isinstance(number, float) for entry in answer.data for number in entry.embedding)
        assert len(answer.data[0].embedding) == len(answer.data[1].embedding) > 1
        assert answer.usage.prompt_tokens > 0


def usage_adds_up(usage):
    assert usage is not None, "no usage"
    assert usage.prompt_tokens > 0 and usage.completion_tokens > 0, usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage


EVERYWHERE = [
    an_answer_comes_whole_with_its_usage,
    a_stream_carries_the_same_answer_piece_by_piece,
    a_stream_tells_its_usage_only_when_asked,
    a_stream_that_is_left_early_does_not_block_the_next_request,
    a_text_completion_comes_whole_and_as_a_stream,
    a_wrong_token_is_refused_as_the_client_expects,
]
OF_A_NODE = [
    the_models_tell_their_context_length,
    an_unknown_model_is_refused_with_the_known_ones,
    a_streams_last_chunk_tells_how_fast_it_was,
    a_context_that_is_exceeded_is_told_in_openais_word,
    an_ill_typed_field_is_refused_in_the_clients_words,
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base-url", required=True, metavar="URL")
    parser.add_argument("--model", required=True, metavar="NAME")
    parser.add_argument("--embeddings", action="store_true", help="the model serves embeddings: test them too")
    parser.add_argument("--skip-node-rules", action="store_true", help="leave out what a bare engine does not promise")
    options = parser.parse_args()
    token = sys.stdin.readline().strip()
    if not token:
        parser.error("no token: write it as the first line of standard input")

    tests = list(EVERYWHERE)
    if not options.skip_node_rules:
        tests += OF_A_NODE
    if options.embeddings:
        tests.append(an_embedding_is_a_list_of_numbers)

    api = client(options, token)
    failed = 0
    for test in tests:
        try:
            test(api, options)
            print(f"ok {test.__name__}", flush=True)
        except Exception:  # whatever it was, the other tests still run
            failed += 1
            print(f"failed {test.__name__}\n{traceback.format_exc()}", flush=True)
    print(f"{len(tests) - failed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
