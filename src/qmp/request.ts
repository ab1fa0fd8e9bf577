// What a client sends, taken apart: is it a command at all? In QEMU's words.

import type { WireValue } from '../json/messages.ts';
import { inTableOrder } from '../json/printer.ts';
import { QmpError } from './errors.ts';

export interface Request {
  readonly command: string;
  readonly given: WireValue;
  /** To be run before all that wait. */
  readonly outOfBand: boolean;
}

/** The `id` of what was sent, whatever else is wrong with it; undefined without one. */
export function idOf(value: WireValue): WireValue | undefined {
  return isObject(value) && Object.hasOwn(value, 'id') ? value['id'] : undefined;
}

/** `oob`: the client has asked for commands out of band. Throws `QmpError`. */
export function readRequest(value: WireValue, oob: boolean): Request {
  if (!isObject(value)) throw new QmpError('QMP input must be a JSON object');
  let execute: string | undefined;
  for (const name of inTableOrder(Object.keys(value))) {
    if (name === 'execute' || (name === 'exec-oob' && oob)) {
      checkCommand(value, name, execute);
      execute = name;
    } else checkMember(name, value[name]);
  }
  if (execute === undefined) throw new QmpError("QMP input lacks member 'execute'");
  const command = value[execute] as string;
  return { command, given: value['arguments'] ?? {}, outOfBand: execute === 'exec-oob' };
}

function checkCommand(value: WireObject, name: string, other: string | undefined): void {
  if (typeof value[name] !== 'string') {
    throw new QmpError(`QMP input member '${name}' must be a string`);
  }
  if (other !== undefined) {
    throw new QmpError(`QMP input member '${name}' clashes with '${other}'`);
  }
}

function checkMember(name: string, value: WireValue | undefined): void {
  if (name === 'id') return;
  if (name !== 'arguments') throw new QmpError(`QMP input member '${name}' is unexpected`);
  if (value === undefined || !isObject(value)) {
    throw new QmpError("QMP input member 'arguments' must be an object");
  }
}

type WireObject = { readonly [key: string]: WireValue };

function isObject(value: WireValue): value is WireObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
