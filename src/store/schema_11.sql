ALTER TABLE rollout ADD COLUMN takes_back INTEGER;
ALTER TABLE rollout_phone ADD COLUMN version_before INTEGER;
