"""An original that says who it is of in every corner, made by pydicom."""

from __future__ import annotations

import copy
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from medrail.cases.deidentify.keys import Keys

PATIENT = "key of a patient"
SECRET = "5e" * 32
ROOT = "1.3.6.1.4.1.5962.99"


@pytest.fixture
def keys() -> Keys:
    made = Keys(SECRET)
    made.add_patients([PATIENT])
    return made


@pytest.fixture
def original() -> Dataset:
    """A CT slice of 5 x 7 pixels with identifiers where scanners put them, at several depths."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = f"{ROOT}.1.1"
    dataset.file_meta.SourceApplicationEntityTitle = "WARD7"
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientName, dataset.PatientID = "Müllerová^Ilse^^Dr", "PID-471199"
    dataset.PatientBirthDate, dataset.PatientSex, dataset.PatientAge = "19310412", "F", "093Y"
    dataset.OtherPatientIDs = "OLD-88123"
    dataset.PatientAddress, dataset.PatientTelephoneNumbers = "Lindenallee 12 Freiberg", "03731-998877"
    dataset.StudyDate, dataset.StudyTime, dataset.SeriesDate = "20240517", "101112", "20240517"
    dataset.AcquisitionDateTime = "20240517101530.123456+0200"
    dataset.AccessionNumber, dataset.StudyID = "ACC7766551", "ST-9917"
    dataset.InstitutionName, dataset.StationName = "Krankenhaus Sankt Barbara", "CTSUITE-B"
    dataset.ReferringPhysicianName, dataset.OperatorsName = "Weiss^Otto", "Kern^Pia"
    dataset.DeviceSerialNumber, dataset.Manufacturer = "SN-553311", "SIEMENS"
    dataset.StudyDescription = "Thorax Ilse Müllerová 17.05.2024"
    dataset.ImageComments = "called Dr Weiss"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"{ROOT}.2", f"{ROOT}.3"
    dataset.FrameOfReferenceUID = f"{ROOT}.4"
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = CTImageStorage, f"{ROOT}.1.2"
    dataset.ReferencedImageSequence = Sequence([reference])
    request, observer = Dataset(), Dataset()
    request.RequestedProcedureID, request.ScheduledProcedureStepDescription = "RP-20031", "Thorax for Ilse"
    observer.PersonName, observer.ContentDate = "Weiss^Otto", "20240518"
    dataset.RequestAttributesSequence = Sequence([request])
    dataset.AcquisitionContextSequence = Sequence([observer])
    block = dataset.private_block(0x0029, "ACME PRIVATE", create=True)
    block.add_new(0x01, "LO", "Müllerová, Ilse")
    dataset.Modality, dataset.ImageType, dataset.InstanceNumber = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"], 3
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [1, 2, 3.5], [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.SliceThickness = [0.7, 0.9], 5
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 5, 7, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.PixelData = np.arange(35, dtype="<i2").tobytes()
    dataset.preamble = b"made for Muellerova".ljust(128, b"\0")
    return dataset


def save(dataset: Dataset, path: Path) -> Path:
    """Write a copy, so that a test may go on changing the data set."""
    path.parent.mkdir(parents=True, exist_ok=True)
    copy.deepcopy(dataset).save_as(path, enforce_file_format=True)
    return path


def parse(content: bytes) -> Dataset:
    return pydicom.dcmread(BytesIO(content))
