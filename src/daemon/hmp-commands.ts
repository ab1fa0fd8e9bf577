// The commands of the human monitor that there are.

import type { HmpCommand } from '../hmp/command.ts';
import type { Daemon } from './daemon.ts';
import { describeDevices, describeNode } from './describe.ts';
import { blockJobsCommand, hmpJobCommands } from './hmp-job-commands.ts';
import { infoBlock, infoNodes } from './info-block.ts';

export function hmpCommands(daemon: Daemon): readonly HmpCommand[] {
  return [
    {
      name: 'quit|q',
      arguments: [],
      shown: '',
      about: 'quit the emulator',
      run: () => daemon.quit('host-qmp-quit').then(() => ''),
    },
    ...hmpJobCommands(daemon),
    {
      name: 'info',
      arguments: [],
      shown: '[subcommand]',
      about: 'show various information about the system state',
      below: [blockCommand(daemon), blockJobsCommand(daemon)],
    },
  ];
}

function blockCommand({ graph, options }: Daemon): HmpCommand {
  return {
    name: 'block',
    arguments: [
      { name: 'nodes', kind: 'flag', letter: 'n' },
      { name: 'verbose', kind: 'flag', letter: 'v' },
      { name: 'device', kind: 'device', optional: true },
    ],
    shown: '[-n] [-v] [device]',
    about:
      'show info of one block device or all block devices (-n: show named nodes; -v: show details)',
    run: async ({ nodes, verbose, device }) => {
      const imageText = verbose === true ? options.imageText : undefined;
      const name = typeof device === 'string' ? device : undefined;
      if (nodes !== true) {
        return infoBlock(await describeDevices(graph, options.describeImage), name, imageText);
      }
      const described = [];
      for (const node of graph.nodes) {
        if (name !== undefined && name !== node.name) continue;
        described.push(await describeNode(node, options.describeImage));
      }
      return infoNodes(described, imageText);
    },
  };
}
