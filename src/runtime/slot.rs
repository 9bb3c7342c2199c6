//! A slot in which a module above the runtime keeps one value per context.

use std::any::Any;
use std::sync::OnceLock;

/// A value that a module above the runtime attaches to a context.
pub(crate) trait Attachment: Any + Send + Sync {
    /// Called when the context is being dropped.
    fn close(&self);

    /// Returns `self`, to be downcast.
    fn as_any(&self) -> &dyn Any;
}

/// A slot for one [`Attachment`], created when it is first needed.
pub(crate) struct Slot {
    /// `Some(None)`: the context was dropped before anything was attached.
    value: OnceLock<Option<Box<dyn Attachment>>>,
}

impl Slot {
    pub(super) const fn new() -> Self {
        Slot { value: OnceLock::new() }
    }

    /// Returns the attachment, which `create` makes if there is none; or `None` if the context was
    /// dropped before anything was attached.
    ///
    /// # Panics
    /// If an attachment of another type is in the slot.
    pub(crate) fn get_or_init<T: Attachment>(&self, create: impl FnOnce() -> T) -> Option<&T> {
        let value = self.value.get_or_init(|| Some(Box::new(create())));
        let value = value.as_ref()?.as_any().downcast_ref();
        Some(value.expect("all attachments of a slot have one type"))
    }

    /// Closes the attachment, or else the slot.
    pub(super) fn close(&self) {
        if let Some(value) = self.value.get_or_init(|| None) {
            value.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[derive(Default)]
    struct Flag(AtomicBool);

    impl Attachment for Flag {
        fn close(&self) {
            self.0.store(true, Ordering::Relaxed);
        }

        fn as_any(&self) -> &dyn Any {
            self
        }
    }

    #[test]
    fn an_attachment_is_created_once_and_closed() {
        let slot = Slot::new();
        let flag = slot.get_or_init(Flag::default).expect("the slot is open");
        assert!(std::ptr::eq(flag, slot.get_or_init(Flag::default).expect("it is there")));
        slot.close();
        assert!(flag.0.load(Ordering::Relaxed));
    }

    #[test]
    fn nothing_is_attached_to_a_closed_slot() {
        let slot = Slot::new();
        slot.close();
        assert!(slot.get_or_init(Flag::default).is_none());
    }
}
