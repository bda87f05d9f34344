//! What a host may ask for at most. Each limit is far above what Google's adb asks for.

/// Bytes of a message's payload, as agreed at most in CNXN (adbd: `MAX_PAYLOAD`).
pub const PAYLOAD_BYTES_MAX: u32 = 1024 * 1024;

/// Bytes that a stream takes before they are consumed, with delayed_ack (adbd: `INITIAL_DELAYED_ACK_BYTES`).
pub const RECEIVE_WINDOW_BYTES: u32 = 32 * 1024 * 1024;

/// Messages of one stream that wait for its service.
pub const WAITING_MESSAGES_MAX: usize = 65_536;

/// Streams open at once on one connection (adbd sets no limit).
pub const STREAMS_MAX: usize = 1024;

/// Messages that wait for the transport. Then the services, and after them the host, wait.
pub const OUTGOING_MESSAGES_MAX: usize = 16;

/// Bytes of a path in the sync service (adbd: 1024).
pub const PATH_BYTES_MAX: usize = 1024;

/// Bytes of a stream that are acknowledged before its service took them: what a Unix socket holds, into which adbd writes.
pub const BUFFER_BYTES: u64 = 212_992;

/// Bytes of one DATA chunk that the sync service sends (adbd: `SYNC_DATA_MAX`); it takes chunks of any size, as adbd does.
pub const SYNC_DATA_BYTES_MAX: usize = 64 * 1024;

/// Bytes of one packet of the shell protocol from the host; input may be longer, as it is for adbd.
pub const SHELL_PACKET_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of one line typed into a shell without command.
pub const SHELL_LINE_BYTES_MAX: usize = 64 * 1024;

/// Public keys that a phone remembers; the oldest is forgotten.
pub const KEYS_MAX: usize = 64;
