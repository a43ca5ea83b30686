r"""The symbolic grader: string rules first, then a parser and exact arithmetic of its own.

No text of a model's is ever handed to `eval` or to a computer algebra system. Conventions (they follow the MATH
benchmark; where sources contradict each other, what is refused is named):
- units, currency, degree and percent signs may be missing on one side; 28\% is 28 and 0.28, but 75 is not 0.75;
- lists and sets have no order, tuples and intervals have; an interval, an inequality and a set-builder may be the same;
- `x = 3` is 3, `f(x) = …` is its body; an equation is not one of its sides; equations are equal up to a factor;
- an exact value equals a decimal with nine or more right digits; integers are compared exactly;
- yes is true and no is false; `1,25` may be 1.25, `1,5` is a list; `12th` is 12;
- an equation that is linear in `y` is what it gives for it: `xy = 6` is `6/x`;
- a whole answer in words is the number that they say: five is 5, 2.5 million is 2500000;
- refused: rounded values (6.46 for 84/13), most sets in words;
- an ellipsis is what it is spelled like, but between whole numbers in even steps (`1, 2, …, 5`) a list.
"""

from skymath_jax.grading.symbolic.equal import symbolic_equal

__all__ = ["symbolic_equal"]
