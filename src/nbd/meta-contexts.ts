// Which metadata of an export a client asks for by name, and the numbers they go by.

import type { NbdExport } from './export.ts';

export type MetaContext =
  | { readonly kind: 'allocation'; readonly id: number; readonly name: string }
  | { readonly kind: 'depth'; readonly id: number; readonly name: string }
  | {
      readonly kind: 'bitmap';
      readonly id: number;
      readonly name: string;
      readonly bitmap: string;
    };

const BITMAP = 'qemu:dirty-bitmap:';

/** All that an export has, in the order in which they are told. */
export function metaContextsOf(served: NbdExport): readonly MetaContext[] {
  const bitmaps = (served.bitmaps ?? []).map((bitmap, i): MetaContext => {
    return { kind: 'bitmap', id: 2 + i, name: BITMAP + bitmap, bitmap };
  });
  const depth: MetaContext = { kind: 'depth', id: 1, name: 'qemu:allocation-depth' };
  return [
    { kind: 'allocation', id: 0, name: 'base:allocation' },
    ...(served.allocationDepth ? [depth] : []),
    ...bitmaps,
  ];
}

/** What LIST answers: a name, or the beginning of names; all of them without queries. */
export function listed(served: NbdExport, queries: readonly string[]): readonly MetaContext[] {
  const all = metaContextsOf(served);
  if (queries.length === 0) return all;
  return all.filter((context) => queries.some((query) => isMeant(context, query)));
}

function isMeant({ name }: MetaContext, query: string): boolean {
  if (query === name) return true;
  // A namespace by itself, or the bitmaps as a group.
  const isGroup = query === 'base:' || query === 'qemu:' || query === BITMAP;
  return isGroup && name.startsWith(query);
}

/** What SET chooses: names alone. */
export function chosen(served: NbdExport, queries: readonly string[]): readonly MetaContext[] {
  return metaContextsOf(served).filter(({ name }) => queries.includes(name));
}
