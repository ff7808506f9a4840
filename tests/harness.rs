//! The helpers of the end-to-end tests. The only tests here are those that another test starts as a
//! process of its own.

pub(crate) mod agent;
pub(crate) mod attacker;
pub(crate) mod byte_client;
pub(crate) mod fake_host;
pub(crate) mod faulty_front;
pub(crate) mod flood;
pub(crate) mod log_sink;
pub(crate) mod machine;
pub(crate) mod openssh_agent;
pub(crate) mod other_users;
pub(crate) mod person;
pub(crate) mod process_memory;
pub(crate) mod processes;
pub(crate) mod recorded;
pub(crate) mod scene;
pub(crate) mod served;
pub(crate) mod service_manager;
pub(crate) mod shim;
pub(crate) mod small_disk;
pub(crate) mod softhsm;
pub(crate) mod timing;
pub(crate) mod token_process;
pub(crate) mod touch_agent;
pub(crate) mod town;
pub(crate) mod typist;
pub(crate) mod vault_agent;
pub(crate) mod withdrawing;
pub(crate) mod yubikey_desk;
