ALTER TABLE rollout_phone ADD COLUMN unfit_since_unix_ms INTEGER;
ALTER TABLE rollout ADD COLUMN starts_unix_ms INTEGER;
