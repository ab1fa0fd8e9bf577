// Keeps back what guests ask for while something changes below them.

import type { BlockNode } from './node.ts';

/** Nothing reads through the nodes, or through what stands on them, until what it resolves to is called. */
export async function holdAbove(nodes: readonly BlockNode[]): Promise<() => void> {
  const resume: (() => void)[] = [];
  const seen = new Set<BlockNode>();
  const visit = async (node: BlockNode): Promise<void> => {
    if (seen.has(node)) return;
    seen.add(node);
    for (const { above, hold } of node.users) {
      if (hold !== undefined) resume.push(await hold());
      if (above !== undefined) await visit(above.node);
    }
  };
  for (const node of nodes) await visit(node);
  return () => {
    for (const each of resume) each();
  };
}
