"""Every calibration that was ever made here, measured on one reference session, and deployed."""
