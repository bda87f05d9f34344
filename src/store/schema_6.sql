ALTER TABLE rollout ADD COLUMN strategy TEXT NOT NULL
    DEFAULT '{"waves":["1","10","50"],"approve":"first","soak_s":0,"max_failures":"0","retries":0}';
ALTER TABLE rollout ADD COLUMN open_waves INTEGER NOT NULL DEFAULT 4294967295;
ALTER TABLE rollout ADD COLUMN soaks_until_unix_ms INTEGER;
ALTER TABLE rollout ADD COLUMN accepted_failures INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rollout_phone ADD COLUMN retried INTEGER NOT NULL DEFAULT 0;
