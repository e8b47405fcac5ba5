from equipoise.convert.core.ops import Concat, Permute, Split
from equipoise.convert.core.rules import Namespace, Rule, StepRule, compose

TRANSPOSE = (Permute((1, 0)),)
SOURCE, PARAMETER, TARGET = Namespace.SOURCE, Namespace.PARAMETER, Namespace.TARGET


def test_one_after_one_is_one() -> None:
    first = Rule(("tf",), ("canonical",), TRANSPOSE)
    second = Rule(("canonical",), ("flax",), TRANSPOSE)
    assert compose([first], [second]) == [(StepRule(Rule(("tf",), ("flax",)), SOURCE, TARGET),)]


def test_split_then_join_is_one_rule_without_operations() -> None:
    first = Rule(("fused",), ("q", "k"), (Split(0, (2, 3)),))
    second = Rule(("q", "k"), ("also_fused",), (Concat(0, (2, 3)),))
    assert compose([first], [second]) == [
        (StepRule(Rule(("fused",), ("also_fused",)), SOURCE, TARGET),)
    ]


def test_rules_that_share_a_tensor_are_one_step() -> None:
    split = Rule(("fused",), ("q", "k"), (Split(0, (2, 2)),))
    to_q, to_k = Rule(("q",), ("Q",), TRANSPOSE), Rule(("k",), ("K",), TRANSPOSE)
    other = Rule(("x",), ("y",))
    steps = compose([split, other], [to_q, Rule(("y",), ("Y",)), to_k])
    assert len(steps) == 2
    joined = next(step for step in steps if len(step) > 1)
    assert set(joined) == {
        StepRule(split, SOURCE, PARAMETER),
        StepRule(to_q, PARAMETER, TARGET),
        StepRule(to_k, PARAMETER, TARGET),
    }
    assert joined[0] == StepRule(split, SOURCE, PARAMETER)
    assert (StepRule(Rule(("x",), ("Y",)), SOURCE, TARGET),) in steps


def test_inverse_undoes() -> None:
    rule = Rule(("a", "b"), ("c",), (Concat(0, (1, 2)), Permute((1, 0))))
    assert rule.inverse == Rule(("c",), ("a", "b"), (Permute((1, 0)), Split(0, (1, 2))))
    assert rule.inverse.inverse == rule
    assert rule.shapes(((1, 5), (2, 5))) == ((5, 3),)
