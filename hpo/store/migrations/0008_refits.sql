-- Revision 8: the best full trainings are repeated on all training images.

ALTER TABLE hpo.trial ADD COLUMN refit_of integer, ADD COLUMN limits integer[];
COMMENT ON COLUMN hpo.trial.refit_of IS 'the number of the full training that this one repeats on all training images';
COMMENT ON COLUMN hpo.trial.limits IS 'the epochs of each phase of a refit';
