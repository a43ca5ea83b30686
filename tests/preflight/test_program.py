"""Reading a compiled program: loops count their trips, and collectives what a device receives."""

import jax
import jax.numpy as jnp
import pytest

from skymath_jax.preflight import program

TEXT = """HloModule step

%fused (p0: f32[8,128]) -> f32[8,128] {
  %p0 = f32[8,128]{1,0} parameter(0)
  ROOT %all-reduce.9 = f32[8,128]{1,0} all-reduce(%p0), replica_groups={{0,1},{2,3}}, to_apply=%add
}

%cond (c: (u32[], f32[8,128])) -> pred[] {
  %c = (u32[], f32[8,128]{1,0}) parameter(0)
  %bound = u32[] constant(10)
  %i = u32[] get-tuple-element(%c), index=0
  ROOT %less = pred[] compare(%i, %bound), direction=LT
}

%body (b: (u32[], f32[8,128])) -> (u32[], f32[8,128]) {
  %b = (u32[], f32[8,128]{1,0}) parameter(0)
  %j = u32[] get-tuple-element(%b), index=0
  %x = f32[8,128]{1,0} get-tuple-element(%b), index=1
  %two = u32[] constant(2)
  %next = u32[] add(%j, %two)
  %y = f32[8,128]{1,0} fusion(%x), kind=kLoop, calls=%plain, backend_config={"estimated_cycles":"100"}
  %z = f32[8,128]{1,0} fusion(%y), kind=kCustom, calls=%fused, backend_config={"estimated_cycles":"10"}
  %s = (f32[8,128]{1,0}, f32[8,128]{1,0}, u32[], u32[]) collective-permute-start(%z), source_target_pairs={{0,1}}
  %d = f32[8,128]{1,0} collective-permute-done(%s)
  ROOT %out = (u32[], f32[8,128]{1,0}) tuple(%next, %d)
}

%plain (q: f32[8,128]) -> f32[8,128] {
  ROOT %q = f32[8,128]{1,0} parameter(0)
}

ENTRY %main (a: (u32[], f32[8,128])) -> bf16[32,128] {
  %a = (u32[], f32[8,128]{1,0}) parameter(0)
  %loop = (u32[], /*index=1*/f32[8,128]{1,0}) while(%a), condition=%cond, body=%body
  %r = f32[8,128]{1,0} get-tuple-element(%loop), index=1
  %copy.1 = f32[8,128]{0,1} copy(%r)
  %h = bf16[8,128]{1,0} convert(%copy.1), backend_config={"estimated_cycles":"7"}
  ROOT %g = bf16[32,128]{1,0} all-gather(%h), replica_groups=mesh['x'=2,'y'=4] {'y'}, dimensions={0}
}
"""
ARRAY = 8 * 128 * 4


def test_a_loop_counts_its_trips_and_a_collective_what_comes_in():
  found = program.figures(TEXT)
  gathered, reduced, permuted = 32 * 128 * 2 * 3 // 4, 5 * ARRAY * 2 // 2, 5 * ARRAY
  assert found.cycles == 5 * 110 + 7
  assert found.synchronous_bytes == gathered
  assert program.figures(TEXT.replace("%fused", "%all-reduce-scatter.1")).synchronous_bytes == gathered + reduced / 2
  assert found.collective_bytes == gathered + reduced + permuted
  assert found.copied_bytes == ARRAY


@pytest.mark.parametrize("trips", [1, 7])
def test_it_reads_what_xla_writes_here(trips):
  """No cycles in a CPU's program, but its loops and conditionals are written the same way."""

  def scanned(x):
    return jax.lax.scan(lambda x, _: (jnp.sin(x) @ x, None), x, None, length=trips)[0]

  text = jax.jit(scanned).lower(jnp.ones((64, 64))).compile().as_text()
  computations, entry = program.parse(text)
  times = program.executions(computations, entry)
  assert entry and times[entry] == 1
  assert max(times.values()) == trips
