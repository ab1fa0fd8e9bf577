// What `--drive` says: a chain by its top's name, under a device.

import { OptionDict } from '../chain/option-dict.ts';
import { ImageError } from '../errors.ts';
import { namedValues } from './option-list.ts';

export interface DriveOptions {
  readonly id: string;
  readonly described: { readonly filename?: string; readonly options: OptionDict };
}

/** Of a machine that there is none of. */
const WITHOUT_MEANING = ['if', 'index', 'bus', 'unit', 'media', 'snapshot', 'werror', 'rerror'];

const CACHES: Readonly<Record<string, readonly [direct: string, noFlush: string]>> = {
  none: ['on', 'off'],
  writeback: ['off', 'off'],
  unsafe: ['off', 'on'],
};

/** Options of the image's node are passed on as they are. */
export function parseDrive(text: string): DriveOptions {
  const given = new Map(namedValues(text).map(({ name, value }) => [name, value]));
  const take = (name: string): string | undefined => {
    const value = given.get(name);
    given.delete(name);
    return value;
  };
  for (const name of WITHOUT_MEANING) {
    if (take(name) === undefined) continue;
    if (name === 'snapshot') throw new ImageError('unsupported', "'snapshot' is not supported");
  }
  const id = take('id');
  if (id === undefined) throw new ImageError('invalid', "Parameter 'id' is missing");
  const [filename, format, readonly, cache] = ['file', 'format', 'readonly', 'cache'].map(take);
  const options = new OptionDict(given);
  if (format !== undefined) options.set('driver', format);
  if (readonly !== undefined) options.set('read-only', readonly);
  if (cache !== undefined) {
    const [direct, noFlush] = CACHES[cache] ?? [];
    if (direct === undefined || noFlush === undefined) {
      throw new ImageError('invalid', `invalid cache option: ${cache}`);
    }
    options.set('cache.direct', direct);
    options.set('cache.no-flush', noFlush);
  }
  return { id, described: { options, ...(filename !== undefined && { filename }) } };
}
