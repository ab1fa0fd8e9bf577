// The commands of QMP that there are.

import { OptionDict } from '../chain/option-dict.ts';
import type { JsonValue } from '../json/parser.ts';
import { type CommandTable, command } from '../qmp/command.ts';
import { bool, integer, object, optional, text } from '../qmp/schema.ts';
import { blockdevOptions } from './blockdev-schema.ts';
import type { Daemon } from './daemon.ts';
import { describeDevices, describeNode } from './describe.ts';
import { exportCommands } from './export-commands.ts';

const nothing = object({});

export function commandTable(daemon: Daemon): CommandTable {
  const table = new Map([
    ...Object.entries(aboutDaemon(daemon)),
    ...Object.entries(aboutNodes(daemon)),
    ...Object.entries(exportCommands(daemon.exports)),
  ]);
  const names = [...table.keys(), 'query-commands', 'qmp_capabilities'];
  return table.set(
    'query-commands',
    command(nothing, () => names.map((name) => ({ name }))),
  );
}

function aboutDaemon(daemon: Daemon) {
  return {
    'query-version': command(nothing, () => daemon.options.version),
    'query-status': command(nothing, () => ({
      status: 'running',
      singlestep: false,
      running: true,
    })),
    quit: command(nothing, () => daemon.quit('host-qmp-quit').then(() => undefined)),
    'human-monitor-command': command(
      object({ 'command-line': text, 'cpu-index': optional(integer) }),
      ({ 'command-line': line }) => daemon.interpreter.run(line),
    ),
  };
}

function aboutNodes({ graph, options: { describeImage } }: Daemon) {
  return {
    'query-block': command(nothing, () => describeDevices(graph, describeImage)),
    'query-named-block-nodes': command(object({ flat: optional(bool) }), async ({ flat }) => {
      const described = [];
      for (const node of graph.nodes) {
        described.push(await describeNode(node, describeImage, flat));
      }
      return described;
    }),
    'blockdev-add': command(blockdevOptions, async (given) => {
      await graph.add(OptionDict.fromObject(given as { readonly [key: string]: JsonValue }));
      return undefined;
    }),
    'blockdev-del': command(object({ 'node-name': text }), async ({ 'node-name': name }) => {
      await graph.remove(name);
      return undefined;
    }),
  };
}
