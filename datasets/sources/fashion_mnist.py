"""Fashion-MNIST: 28 x 28 pictures of clothes, published in the format of MNIST."""

from __future__ import annotations

from datasets.augmentations.none import NONE
from datasets.formats.idx import IdxFiles
from datasets.spec import DatasetSpec

_CLASSES = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
_FILES = IdxFiles(
    folder="FashionMNIST",
    urls=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    md5=(
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
    class_names=tuple(_CLASSES.split(",")),
)
FASHION_MNIST = DatasetSpec(
    spelling="fashion_mnist",
    num_train=60_000,
    num_test=10_000,
    num_classes=10,
    input_shape=(1, 28, 28),
    mean=(0.2860,),
    std=(0.3530,),
    augmentation=NONE,
    read=_FILES.read,
    origin="Fashion-MNIST (Xiao et al.)",
)
