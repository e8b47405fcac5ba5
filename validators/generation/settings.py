"""The settings of a generation: those of a generation config, of the pipeline and of the call."""

from __future__ import annotations

from dataclasses import dataclass

from equipoise.convert.core.errors import InputError

DEFAULT_NEW_TOKENS = 20
"""Number of new tokens if a config sets no length, as in transformers."""

TokenBias = tuple[tuple[int, ...], float]
"""Tokens, and what is added to the score of the last one where the others precede it."""


@dataclass(frozen=True)
class TimeRules:
    """Whisper's rules for tokens of time: they come in pairs, and never go back.

    Attributes:
        first: Id of the token of 0.00 seconds.
        plain: Id of the token that says that there are no times.
        end: Id of the end token.
        last_initial: Largest index of the first time; None: any.
        by_probability: Whether a time is forced where all times together are likelier than any text.
    """

    first: int
    plain: int
    end: int
    last_initial: int | None = None
    by_probability: bool = True


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. The attributes are those of ``GenerationConfig``, with the same meaning of off."""

    seed: int
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    min_p: float | None = None
    typical_p: float = 1.0
    epsilon_cutoff: float = 0.0
    eta_cutoff: float = 0.0


@dataclass(frozen=True)
class GenerationSettings:
    """Settings of ``generation_config`` that decide which token is chosen.

    Attributes:
        num_beams: Number of beams; 1 is greedy search.
        num_return_sequences: Number of texts of each sample.
        max_length: Maximal length, prompt included.
        max_new_tokens: Maximal number of new tokens; overrides ``max_length``.
        is_max_length_given: Whether the call itself gives ``max_length``: then 20 is no default.
        min_length: Minimal length, prompt included.
        min_new_tokens: Minimal number of new tokens; overrides ``min_length``.
        eos_token_ids: Ids of the end tokens.
        pad_token_id: Id of the padding token.
        start_token_ids: Ids that the settings name as the one that the decoder of an encoder-decoder model starts with.
        forced_bos_token_id: Id of the token that is forced after the start token.
        forced_eos_token_ids: Ids of the tokens that are forced at the maximal length.
        suppress_tokens: Ids that are never generated.
        begin_suppress_tokens: Ids that are not generated as first token.
        biases: What is added to the scores of tokens after others; minus infinity for words that are banned.
        no_repeat_ngram_size: Size of n-grams that must not occur twice; 0 is off.
        encoder_no_repeat_ngram_size: Size of n-grams of the input that must not occur; 0 is off.
        repetition_penalty: Factor that makes tokens less likely that have occurred.
        encoder_repetition_penalty: Factor that makes tokens of the input more likely.
        exponential_decay: Number of tokens, and the factor by which the end becomes likelier after them; None is off.
        remove_invalid_values: Whether infinite and undefined scores are replaced.
        renormalize_logits: Whether scores are normalized after all else.
        length_penalty: Exponent of the length in the scores of beam search.
        early_stopping: When beam search stops, as in transformers.
        max_position_embeddings: Number of positions that the model has.
        stop_strings: Texts that end the generated text.
        sampling: How tokens are drawn; None: the best are chosen.
        encoder_tokens: The input's tokens, one row for each sample, for the settings that look at them.
        times: Rules for tokens of time; None: there are none.
    """

    num_beams: int = 1
    num_return_sequences: int = 1
    max_length: int | None = None
    max_new_tokens: int | None = None
    is_max_length_given: bool = False
    min_length: int = 0
    min_new_tokens: int | None = None
    eos_token_ids: tuple[int, ...] = ()
    pad_token_id: int = 0
    start_token_ids: tuple[int, ...] = ()
    forced_bos_token_id: int | None = None
    forced_eos_token_ids: tuple[int, ...] = ()
    suppress_tokens: tuple[int, ...] = ()
    begin_suppress_tokens: tuple[int, ...] = ()
    biases: tuple[TokenBias, ...] = ()
    no_repeat_ngram_size: int = 0
    encoder_no_repeat_ngram_size: int = 0
    repetition_penalty: float = 1.0
    encoder_repetition_penalty: float = 1.0
    exponential_decay: tuple[float, float] | None = None
    remove_invalid_values: bool = False
    renormalize_logits: bool = False
    length_penalty: float = 1.0
    early_stopping: bool | str = False
    max_position_embeddings: int | None = None
    stop_strings: tuple[str, ...] = ()
    sampling: Sampling | None = None
    encoder_tokens: tuple[tuple[int, ...], ...] = ()
    times: TimeRules | None = None

    def max_total_length(self, prompt_length: int) -> int:
        """Returns the maximal length of sequences with a prompt of this length."""
        if self.max_new_tokens is not None:
            return prompt_length + int(self.max_new_tokens)
        # 20 is the default of transformers: it is the number of new tokens if no length is set.
        is_set = self.is_max_length_given or self.max_length != DEFAULT_NEW_TOKENS
        if self.max_length is not None and is_set:
            return int(self.max_length)
        length = prompt_length + DEFAULT_NEW_TOKENS
        return min(length, self.max_position_embeddings) if self.max_position_embeddings else length

    def min_total_length(self, prompt_length: int) -> int:
        """Returns the minimal length of sequences with a prompt of this length."""
        if self.min_new_tokens is not None:
            return prompt_length + int(self.min_new_tokens)
        return self.min_length

    def check_prompt(self, length: int) -> None:
        """Checks that a prompt of this length leaves room for a token.

        Raises:
            InputError: It is as long as the longest text, or longer.
        """
        if length >= self.max_total_length(length):
            raise InputError(
                f"the prompt has {length} tokens, and max_length is {self.max_total_length(length)}",
                hint="a larger max_length, or max_new_tokens",
            )

    def check_number_of_texts(self) -> None:
        """Checks that the search has as many texts as are asked for.

        Raises:
            InputError: It has not.
        """
        count = self.num_return_sequences
        if count > 1 and self.num_beams == 1 and self.sampling is None:
            raise InputError(
                "greedy search has one text",
                found=f"num_return_sequences {count}",
                hint="num_beams, or do_sample with a seed",
            )
        if self.sampling is None and count > self.num_beams:
            raise InputError(
                "more texts than beams",
                found=f"num_return_sequences {count}, num_beams {self.num_beams}",
            )
