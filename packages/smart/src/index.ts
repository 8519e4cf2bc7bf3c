export { placeLayers } from './placement.js';
export { PlacementError } from './placement-error.js';
export {
  describePlacement,
  type PlacementSummary,
  placementViolations,
  summarisePlacement,
} from './placement-report.js';
export {
  type CalibrationBatch,
  type SensitivityOptions,
  type SensitivityScores,
  sensitivityScores,
} from './sensitivity.js';
