import type { CalibrationBatch } from '@zebra/smart';
import { type Device, keep, Random, tensor } from '@zebra/tensor';
import { evaluationBatches, type TokenDocument } from '@zebra/tensor/train';
import { type Encoder, loadDocuments, loadTokenized, type SplitDocuments, splitDocuments } from 'zebra-example-corpus';

/** The corpora, split and tokenised with the teacher's tokenizer. */
export interface DemoData {
  readonly encoder: Encoder;
  /** Whole documents to train on. */
  readonly train: readonly Uint16Array[];
  readonly trainTokens: number;
  /** Whole documents that nothing is trained on. */
  readonly validation: readonly Uint16Array[];
  /** The texts, for preference pairs. */
  readonly documents: SplitDocuments['documents'];
}

/** Options of {@link loadData}. */
export interface LoadDataOptions {
  /** Folder with the teacher's `tokenizer.json`. */
  readonly tokenizerFolder: string;
  /** Most training tokens. */
  readonly trainTokens: number;
}

/** Reads the corpora: about two seconds, and some more for very many training tokens. */
export function loadData({ tokenizerFolder, trainTokens }: LoadDataOptions): DemoData {
  const { documents } = splitDocuments(loadDocuments());
  const { encoder, splits } = loadTokenized({
    tokenizerFolder,
    splits: ['train', 'validation'],
    maxTokens: { train: trainTokens },
    documents,
  });
  return {
    encoder,
    train: splits.train.documents,
    trainTokens: splits.train.ids.length,
    validation: splits.validation.documents,
    documents,
  };
}

/**
 * A document in pieces of at most `length` tokens, so that shuffling mixes long documents too; a rest of one token, which
 * predicts nothing, is left out.
 */
export function pieces(document: Uint16Array, length: number): Uint16Array[] {
  const cut: Uint16Array[] = [];
  for (let start = 0; start + 1 < document.length; start += length) {
    const piece = document.subarray(start, start + length);
    if (piece.length > 1) cut.push(piece);
  }
  return cut;
}

/**
 * Some pieces of documents, drawn at random until they hold so many tokens: a fair sample of all tokens, whatever the
 * length of the documents that they stand in.
 */
export function sampleOf(
  documents: readonly Uint16Array[],
  { length, tokens, seed }: { readonly length: number; readonly tokens: number; readonly seed: number },
): Uint16Array[] {
  const all = new Random(seed).shuffle(documents.flatMap((document) => pieces(document, length)));
  const chosen: Uint16Array[] = [];
  let held = 0;
  for (const piece of all) {
    if (held >= tokens) break;
    chosen.push(piece.subarray(0, Math.max(2, tokens - held)));
    held += piece.length;
  }
  return chosen;
}

/** Batches of tokens on the device, int32 [B, T] each. */
export interface DeviceBatches {
  readonly batches: readonly CalibrationBatch[];
  dispose(): void;
}

/** Packs documents once, in their order, and puts the batches on the device. */
export function deviceBatches(
  device: Device,
  documents: readonly TokenDocument[],
  shape: { readonly batchSize: number; readonly length: number },
): DeviceBatches {
  const upload = (data: Int32Array) => keep(tensor(device, data, [shape.batchSize, shape.length]));
  const batches = Array.from(evaluationBatches(documents, shape), ({ ids, targets, positions, segments }) => ({
    ids: upload(ids),
    targets: upload(targets),
    positions: upload(positions),
    segments: upload(segments),
  }));
  return {
    batches,
    dispose() {
      for (const batch of batches) for (const owned of Object.values(batch)) owned.dispose();
    },
  };
}
