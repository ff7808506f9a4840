//! Makes some PKCS#11 calls directly. C_Sign is called once: the binding asks for the length first,
//! which costs a round trip on a network HSM and crashes some modules. C_Login and C_SetPIN read
//! the PIN from locked memory: the binding needs a copy on the heap.
#![allow(unsafe_code)]

use std::path::Path;
use std::ptr;

use countersign_base::system::sys::LockedMemory;
use cryptoki::error::{Rv, RvError};
use cryptoki::mechanism::MechanismType;
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;
use cryptoki_sys::{
    CK_BYTE, CK_FUNCTION_LIST, CK_MECHANISM, CK_OBJECT_HANDLE, CK_RV, CK_SESSION_HANDLE, CK_ULONG,
    CK_USER_TYPE, CKU_SO, CKU_USER,
};

type LoginFunction =
    unsafe extern "C" fn(CK_SESSION_HANDLE, CK_USER_TYPE, *mut CK_BYTE, CK_ULONG) -> CK_RV;
type SetPin = unsafe extern "C" fn(
    CK_SESSION_HANDLE,
    *mut CK_BYTE,
    CK_ULONG,
    *mut CK_BYTE,
    CK_ULONG,
) -> CK_RV;
type SignInit =
    unsafe extern "C" fn(CK_SESSION_HANDLE, *mut CK_MECHANISM, CK_OBJECT_HANDLE) -> CK_RV;
type Sign = unsafe extern "C" fn(
    CK_SESSION_HANDLE,
    *mut CK_BYTE,
    CK_ULONG,
    *mut CK_BYTE,
    *mut CK_ULONG,
) -> CK_RV;

/// Why the calls could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum Pkcs11CallsError {
    #[error("C_GetFunctionList is missing or failed")]
    FunctionList,
    #[error("C_Login, C_SignInit or C_Sign is missing")]
    Incomplete,
    #[error("the library could not be opened")]
    Library(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The calls of one module that the binding has opened too. The loader gives both the same
/// instance.
pub struct Pkcs11Calls {
    login: LoginFunction,
    sign_init: SignInit,
    sign: Sign,
    /// C_SetPIN, which not every module has.
    set_pin: Option<SetPin>,
    /// Keeps the code behind the pointers above loaded.
    _library: cryptoki_sys::Pkcs11,
}

impl Pkcs11Calls {
    pub fn of_module(path: &Path) -> Result<Self, Pkcs11CallsError> {
        // SAFETY: the caller has opened the same file through the binding, so its initialisers have
        // run already. The operator vouches that it is a sound PKCS#11 module by configuring it.
        let library = unsafe { cryptoki_sys::Pkcs11::new(path) }
            .map_err(|error| Pkcs11CallsError::Library(error.into()))?;
        if library.C_GetFunctionList.is_err() {
            return Err(Pkcs11CallsError::FunctionList);
        }
        let mut list: *mut CK_FUNCTION_LIST = ptr::null_mut();
        // SAFETY: the symbol is present, and the module writes one pointer to the given place.
        let result = unsafe { library.C_GetFunctionList(&raw mut list) };
        if !matches!(Rv::from(result), Rv::Ok) || list.is_null() {
            return Err(Pkcs11CallsError::FunctionList);
        }
        // SAFETY: PKCS#11 says the list is valid as long as the module is loaded; the pointers are
        // copied now.
        let (login, sign_init, sign, set_pin) =
            unsafe { ((*list).C_Login, (*list).C_SignInit, (*list).C_Sign, (*list).C_SetPIN) };
        let (Some(login), Some(sign_init), Some(sign)) = (login, sign_init, sign) else {
            return Err(Pkcs11CallsError::Incomplete);
        };
        Ok(Self { login, sign_init, sign, set_pin, _library: library })
    }

    /// C_Login as the user. `session` must belong to the module from which these calls were made.
    pub fn login(&self, session: &Session, pin: &LockedMemory) -> Result<(), RvError> {
        self.login_as(CKU_USER, session, pin)
    }

    /// C_Login as the security officer, in a session that can write.
    pub fn login_as_officer(&self, session: &Session, pin: &LockedMemory) -> Result<(), RvError> {
        self.login_as(CKU_SO, session, pin)
    }

    fn login_as(
        &self,
        who: CK_USER_TYPE,
        session: &Session,
        pin: &LockedMemory,
    ) -> Result<(), RvError> {
        let pin = pin.as_bytes();
        // SAFETY: the module reads `pin.len()` bytes; it takes a mutable pointer by an old
        // convention only.
        outcome(unsafe {
            (self.login)(session.handle(), who, pin.as_ptr().cast_mut(), pin.len() as CK_ULONG)
        })
    }

    /// C_SetPIN from the `old` PIN to the `new` one: of the user or officer who is logged in, else
    /// of the user.
    pub fn set_pin(
        &self,
        session: &Session,
        old: &LockedMemory,
        new: &LockedMemory,
    ) -> Result<(), RvError> {
        let set_pin = self.set_pin.ok_or(RvError::FunctionNotSupported)?;
        let (old, new) = (old.as_bytes(), new.as_bytes());
        // SAFETY: the module reads as many bytes of each as it is told.
        outcome(unsafe {
            set_pin(
                session.handle(),
                old.as_ptr().cast_mut(),
                old.len() as CK_ULONG,
                new.as_ptr().cast_mut(),
                new.len() as CK_ULONG,
            )
        })
    }

    /// C_SignInit and one C_Sign into `signature`. Returns the number of bytes that were written.
    ///
    /// After an error the session may be left with an operation under way: drop it.
    pub fn sign(
        &self,
        session: &Session,
        mechanism: MechanismType,
        key: ObjectHandle,
        message: &[u8],
        signature: &mut [u8],
    ) -> Result<usize, RvError> {
        let mut mechanism =
            CK_MECHANISM { mechanism: *mechanism, pParameter: ptr::null_mut(), ulParameterLen: 0 };
        // SAFETY: the mechanism outlives the call, and none that is used here takes a parameter.
        outcome(unsafe { (self.sign_init)(session.handle(), &raw mut mechanism, key.handle()) })?;
        let mut length = signature.len() as CK_ULONG;
        // SAFETY: the module reads `message.len()` bytes and writes at most `length` bytes into
        // `signature`. A session is not Sync, so no other thread has an operation under way on it.
        let result = unsafe {
            (self.sign)(
                session.handle(),
                message.as_ptr().cast_mut(),
                message.len() as CK_ULONG,
                signature.as_mut_ptr(),
                &raw mut length,
            )
        };
        outcome(result)?;
        // A module may claim more bytes than there was room for; that is not believed.
        Ok(signature.len().min(length as usize))
    }
}

impl std::fmt::Debug for Pkcs11Calls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pkcs11Calls").finish_non_exhaustive()
    }
}

fn outcome(result: CK_RV) -> Result<(), RvError> {
    match Rv::from(result) {
        Rv::Ok => Ok(()),
        Rv::Error(error) => Err(error),
    }
}
