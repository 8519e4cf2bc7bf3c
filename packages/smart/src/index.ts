export { placeLayers } from './placement.js';
export { PlacementError } from './placement-error.js';
export {
  describePlacement,
  type PlacementSummary,
  placementViolations,
  summarisePlacement,
} from './placement-report.js';
