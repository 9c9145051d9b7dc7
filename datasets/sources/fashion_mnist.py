"""Fashion-MNIST: 28 x 28 pictures of clothes, published in the format of MNIST."""

from __future__ import annotations

from dataclasses import replace

from datasets.formats.idx import IdxFiles
from datasets.sources.mnist import MNIST

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
FASHION_MNIST = replace(
    MNIST,
    spelling="fashion_mnist",
    mean=(0.2860,),
    std=(0.3530,),
    read=_FILES.read,
    origin="Fashion-MNIST (Xiao et al.)",
)
