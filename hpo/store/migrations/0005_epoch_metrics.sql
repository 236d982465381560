-- Revision 5: the metrics of an epoch are a mapping, since a study may have any metrics.

-- Doubles are written with all of their digits, whatever the settings of the role are.
SET LOCAL extra_float_digits = 3;

-- Changing the type of a column rewrites the table once. An update of each row would leave dead rows behind.
ALTER TABLE hpo.epoch ALTER COLUMN train_loss TYPE jsonb USING jsonb_build_object(
    'train_loss', train_loss, 'validation_loss', validation_loss, 'validation_accuracy', validation_accuracy
);
ALTER TABLE hpo.epoch DROP COLUMN validation_loss, DROP COLUMN validation_accuracy;
ALTER TABLE hpo.epoch RENAME COLUMN train_loss TO metrics;
COMMENT ON COLUMN hpo.epoch.metrics IS 'by name; Optuna''s intermediate value is the one that the search minimises';
