// The commands of QMP that there are.

import { OptionDict } from '../chain/option-dict.ts';
import type { JsonValue } from '../json/parser.ts';
import { acting, type Command, type CommandTable, command } from '../qmp/command.ts';
import { bool, integer, object, optional, text } from '../qmp/schema.ts';
import { blockdevOptions } from './blockdev-schema.ts';
import type { Daemon } from './daemon.ts';
import { describeDevices, describeNode } from './describe.ts';
import { exportCommands } from './export-commands.ts';
import { jobCommands } from './job-commands.ts';

const nothing = object({});

export function commandTable(daemon: Daemon): CommandTable {
  const table = new Map([
    ...Object.entries(aboutDaemon(daemon)),
    ...Object.entries(aboutNodes(daemon)),
    ...Object.entries(exportCommands(daemon.exports)),
    ...Object.entries(jobCommands(daemon)),
  ]);
  if (daemon.options.olderNames) addOlderNames(table);
  const names = [...table.keys(), 'query-commands', 'qmp_capabilities'];
  return table.set(
    'query-commands',
    command(nothing, () => names.map((name) => ({ name }))),
  );
}

/** Those of jobs were once written with underscores. */
function addOlderNames(table: Map<string, Command>): void {
  for (const [name, each] of [...table]) {
    if (name.startsWith('block-job-')) table.set(name.replaceAll('-', '_'), each);
  }
}

function aboutDaemon(daemon: Daemon) {
  return {
    'query-version': command(nothing, () => daemon.options.version),
    'query-status': command(nothing, () => ({
      status: 'running',
      singlestep: false,
      running: true,
    })),
    quit: acting(nothing, () => daemon.quit('host-qmp-quit')),
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
    'blockdev-add': acting(blockdevOptions, async (given) => {
      await graph.add(OptionDict.fromObject(given as { readonly [key: string]: JsonValue }));
    }),
    'blockdev-del': acting(object({ 'node-name': text }), (given) =>
      graph.remove(given['node-name']),
    ),
  };
}
