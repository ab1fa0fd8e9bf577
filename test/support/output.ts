// What a verb prints, kept instead.

import { makeContext, type ProgramContext } from '../../src/cli/program.ts';

export function keptOutput(asQemu = false): ProgramContext & { stdout: string; stderr: string } {
  const kept = { stdout: '', stderr: '' };
  const context = makeContext({
    asQemu,
    env: {},
    out: (text) => {
      kept.stdout += text;
    },
    err: (text) => {
      kept.stderr += text;
    },
  });
  return Object.assign(kept, context);
}
