// The second entry, `qimg-ts/testing`: what every Storage promises, as cases for any test runner.

export { pattern } from './testing/checks.ts';
export {
  type ContractOptions,
  type Place,
  type StorageCase,
  storageContract,
} from './testing/storage-contract.ts';
