ALTER TABLE rollout ADD COLUMN joins TEXT;
ALTER TABLE rollout ADD COLUMN closes_unix_ms INTEGER;
